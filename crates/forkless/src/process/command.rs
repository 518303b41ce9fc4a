//! What to start, and how.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fmt::{Debug, Formatter};
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use forkless_process::{parent_variable, pass};
use forkless_shm::{Lease, Role};
use forkless_sys::process::{self, spawn};
use forkless_sys::{AsFd, Errno, OwnedFd};

use super::child::{self, Child, Pipes};
use crate::shared::Shared;
use crate::{Error, arena};

/// What a child has as a standard stream.
#[derive(Debug)]
pub struct Stdio(Stream);

#[derive(Debug)]
enum Stream {
    Inherit,
    Null,
    Piped,
    Descriptor(OwnedFd),
}

impl Stdio {
    /// What this process has. This is so if nothing else is said.
    #[must_use]
    pub fn inherit() -> Self {
        Self(Stream::Inherit)
    }

    /// Nothing: `/dev/null`.
    #[must_use]
    pub fn null() -> Self {
        Self(Stream::Null)
    }

    /// A pipe, whose other end the [`Child`] has.
    #[must_use]
    pub fn piped() -> Self {
        Self(Stream::Piped)
    }
}

impl From<OwnedFd> for Stdio {
    fn from(descriptor: OwnedFd) -> Self {
        Self(Stream::Descriptor(descriptor))
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Self {
        OwnedFd::from(file).into()
    }
}

/// An object for a child, kept alive by the command.
struct Passed {
    name: String,
    kind: u8,
    lease: Result<Lease, forkless_shm::Error>,
}

/// A program to start as a child in the same arena. In the shape of [`std::process::Command`].
///
/// Nothing is refused before [`spawn`](Self::spawn), which says what was wrong.
///
/// # Examples
/// A program that starts itself once more, and reads what that prints:
/// ```standalone_crate
/// use std::io::Read;
///
/// use forkless::process::{Command, Stdio};
/// use forkless::sync::Event;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     if std::env::args().nth(1).as_deref() == Some("greet") {
///         forkless::inherited::<Event>("go")?.wait()?;
///         println!("hello");
///         return Ok(());
///     }
///     let go = Event::create()?;
///     let mut command = Command::current_exe();
///     command.arg("greet").name("greeter").stdout(Stdio::piped()).pass("go", &go);
///     let mut child = command.spawn()?;
///     go.set()?;
///     let mut greeting = String::new();
///     child.stdout.take().ok_or("it is piped")?.read_to_string(&mut greeting)?;
///     assert_eq!(greeting, "hello\n");
///     assert!(child.wait()?.success());
///     Ok(())
/// }
/// ```
pub struct Command {
    program: OsString,
    name: Option<String>,
    arguments: Vec<OsString>,
    cleared: bool,
    /// Variables to set, or to remove.
    environment: BTreeMap<OsString, Option<OsString>>,
    directory: Option<PathBuf>,
    streams: [Stdio; 3],
    passed: Vec<Passed>,
}

impl Command {
    /// To start this program: a path, relative to the directory of this process, or a name to look for in the directories
    /// that `PATH` names.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            name: None,
            arguments: Vec::new(),
            cleared: false,
            environment: BTreeMap::new(),
            directory: None,
            streams: [Stdio::inherit(), Stdio::inherit(), Stdio::inherit()],
            passed: Vec::new(),
        }
    }

    /// To start the program that runs now once more. Say by an argument or a variable that it is to be the child.
    #[must_use]
    pub fn current_exe() -> Self {
        Self::new(std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into()))
    }

    /// Adds an argument.
    pub fn arg(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the child's environment, which is otherwise that of this process.
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.environment.insert(name.as_ref().to_owned(), Some(value.as_ref().to_owned()));
        self
    }

    /// Removes a variable from the child's environment.
    pub fn env_remove(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        self.environment.insert(name.as_ref().to_owned(), None);
        self
    }

    /// Removes all variables from the child's environment, but for those set from now on, and for the one by which it
    /// finds the arena.
    pub fn env_clear(&mut self) -> &mut Self {
        self.cleared = true;
        self.environment.clear();
        self
    }

    /// Where the child begins. The path of the program is not relative to this.
    pub fn current_dir(&mut self, directory: impl AsRef<Path>) -> &mut Self {
        self.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// The child's standard input.
    pub fn stdin(&mut self, stream: impl Into<Stdio>) -> &mut Self {
        self.streams[0] = stream.into();
        self
    }

    /// The child's standard output.
    pub fn stdout(&mut self, stream: impl Into<Stdio>) -> &mut Self {
        self.streams[1] = stream.into();
        self
    }

    /// The child's standard error.
    pub fn stderr(&mut self, stream: impl Into<Stdio>) -> &mut Self {
        self.streams[2] = stream.into();
        self
    }

    /// What messages call the child, such as the news that it died with a lock. Without one it is the program's name.
    pub fn name(&mut self, name: impl Into<String>) -> &mut Self {
        self.name = Some(name.into());
        self
    }

    /// Passes an object to the child, which gets it under this name by [`inherited`](crate::inherited). Of several of one
    /// name the last counts.
    ///
    /// The object lives at least as long as this command or one of the children that it was passed to: it may be dropped
    /// here before the child has opened it.
    pub fn pass<T: Shared>(&mut self, name: impl Into<String>, object: &T) -> &mut Self {
        let (name, lease) = (name.into(), object.lease().duplicate());
        self.passed.push(Passed { name, kind: T::KIND, lease });
        self
    }

    /// Starts the child. It may be called again, for another one.
    ///
    /// # Errors
    /// [`Error::Start`] if there is no such program, it may not be executed, or the system refuses, also because of a
    /// NUL byte in a text. [`Error::Arena`] if the arena is full, or an object belongs to another tree.
    pub fn spawn(&self) -> Result<Child, Error> {
        let arena = arena()?;
        let lifeline = child::lifeline()?;
        let mut objects = Vec::new();
        for passed in &self.passed {
            let lease = passed.lease.as_ref().map_err(Clone::clone)?;
            objects.push((passed.name.as_str(), passed.kind, lease));
        }
        if objects.iter().any(|(name, ..)| name.contains('\0')) {
            return Err(self.refused(Errno::INVAL));
        }
        let parcel = pass(arena, &objects)?;
        let (streams, pipes) = self.open_streams()?;
        let name = self.child_name();
        let owner = arena.reserve_slot(Role::Child, &name)?;
        let started = parent_variable(arena, lifeline, owner, &parcel)
            .map_err(Error::from)
            .and_then(|(variable, value)| self.resolve(variable, &value))
            .and_then(|command| {
                let standard = [streams[0].as_fd(), streams[1].as_fd(), streams[2].as_fd()];
                let pid = spawn(&command, standard, &[arena.file(), lifeline]).map_err(|errno| self.refused(errno))?;
                Child::new(arena, owner, pid, &name, parcel, pipes)
            });
        if started.is_err() {
            arena.return_slot(owner)?;
        }
        started
    }

    fn child_name(&self) -> String {
        let program = || Path::new(&self.program).file_name().unwrap_or(&self.program).to_string_lossy().into_owned();
        self.name.clone().unwrap_or_else(program)
    }

    fn refused(&self, error: impl Into<io::Error>) -> Error {
        Error::Start { program: self.program.to_string_lossy().into_owned(), source: error.into() }
    }

    /// The child's ends of its standard streams, and this process's.
    fn open_streams(&self) -> Result<([OwnedFd; 3], Pipes), Error> {
        let mut pipes = Pipes::default();
        let mut open = |number: u8| -> io::Result<OwnedFd> {
            match &self.streams[usize::from(number)].0 {
                Stream::Inherit => Ok(process::standard(number)?),
                Stream::Null => Ok(process::null()?),
                Stream::Descriptor(descriptor) => descriptor.try_clone(),
                Stream::Piped => {
                    let (reader, writer) = io::pipe()?;
                    let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
                    Ok(match number {
                        0 => {
                            pipes.stdin = Some(writer.into());
                            reader
                        }
                        1 => {
                            pipes.stdout = Some(reader.into());
                            writer
                        }
                        _ => {
                            pipes.stderr = Some(reader.into());
                            writer
                        }
                    })
                }
            }
        };
        let mut open = |number| open(number).map_err(|error| self.refused(error));
        Ok(([open(0)?, open(1)?, open(2)?], pipes))
    }

    /// What `posix_spawn` is given, with one more variable.
    fn resolve(&self, variable: &str, value: &str) -> Result<process::Command, Error> {
        let mut environment: BTreeMap<OsString, OsString> =
            if self.cleared { BTreeMap::new() } else { std::env::vars_os().collect() };
        for (name, value) in &self.environment {
            match value {
                Some(value) => environment.insert(name.clone(), value.clone()),
                None => environment.remove(name),
            };
        }
        let program = find(&self.program, environment.get(OsStr::new("PATH"))).map_err(|error| self.refused(error))?;
        environment.insert(variable.into(), value.into());
        let text = |text: OsString| CString::new(text.into_vec()).map_err(|_| self.refused(Errno::INVAL));
        let pair = |(mut name, value): (OsString, OsString)| {
            name.push("=");
            name.push(value);
            text(name)
        };
        Ok(process::Command {
            program: text(program.into())?,
            arguments: [&self.program]
                .into_iter()
                .chain(&self.arguments)
                .cloned()
                .map(text)
                .collect::<Result<_, _>>()?,
            environment: environment.into_iter().map(pair).collect::<Result<_, _>>()?,
            directory: self.directory.clone().map(|directory| text(directory.into())).transpose()?,
            foreign: true,
        })
    }
}

/// Where a program is: a path as it is, a name in the first directory of `path` that has it.
fn find(program: &OsStr, path: Option<&OsString>) -> io::Result<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return std::path::absolute(program);
    }
    let own = std::env::var_os("PATH");
    let path = path.or(own.as_ref()).cloned().unwrap_or_else(|| "/usr/local/bin:/bin:/usr/bin".into());
    let executable = |path: &PathBuf| {
        path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
    };
    let candidates = std::env::split_paths(&path).map(|directory| directory.join(program));
    let found = candidates.into_iter().find(executable).ok_or(Errno::NOENT)?;
    std::path::absolute(found)
}

/// Without what the environment would fill pages with.
impl Debug for Command {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        let passed: Vec<&str> = self.passed.iter().map(|passed| passed.name.as_str()).collect();
        let mut fields = formatter.debug_struct("Command");
        fields.field("program", &self.program).field("arguments", &self.arguments).field("passed", &passed);
        fields.finish_non_exhaustive()
    }
}
