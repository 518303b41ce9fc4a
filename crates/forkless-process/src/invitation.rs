//! What the programs that the library starts are told, in one environment variable each.

use forkless_shm::{Handle, Owner};
use forkless_sys::{OwnedFd, RawFd, process};

use crate::Error;

/// The variable that tells a template what it was started for.
pub(crate) const TEMPLATE_VARIABLE: &str = "FORKLESS_TEMPLATE";
/// The variable that tells a spawned child.
const SPAWNED_VARIABLE: &str = "FORKLESS_SPAWNED";

/// What a template is started with.
pub(crate) struct Invitation {
    pub(crate) arena: OwnedFd,
    pub(crate) listener: OwnedFd,
    pub(crate) lifeline: OwnedFd,
    pub(crate) lifeline_held: OwnedFd,
    pub(crate) root_pid: u32,
    pub(crate) owner: Owner,
    pub(crate) name: String,
}

impl Invitation {
    pub(crate) fn from_environment() -> Result<Self, Error> {
        // All is read before the first descriptor is taken up: a variable that somebody else set names others'.
        let ([arena, listener, lifeline, lifeline_held], root_pid, owner, name) =
            Self::parse(&of_environment(TEMPLATE_VARIABLE)?)?;
        Ok(Self {
            arena: inherited(arena)?,
            listener: inherited(listener)?,
            lifeline: inherited(lifeline)?,
            lifeline_held: inherited(lifeline_held)?,
            root_pid,
            owner,
            name,
        })
    }

    pub(crate) fn parse(value: &str) -> Result<([RawFd; 4], u32, Owner, String), Error> {
        let mut fields = Fields::in_value(value);
        let descriptors = [fields.number()?, fields.number()?, fields.number()?, fields.number()?];
        Ok((descriptors, fields.number()?, fields.owner()?, fields.text()?))
    }
}

/// What a spawned child is started with.
pub(crate) struct Ticket {
    pub(crate) arena: OwnedFd,
    pub(crate) lifeline: OwnedFd,
    pub(crate) template: Owner,
    pub(crate) owner: Owner,
    pub(crate) job: Handle,
    pub(crate) name: String,
}

impl Ticket {
    pub(crate) fn variable(
        arena: RawFd,
        lifeline: RawFd,
        template: Owner,
        owner: Owner,
        job: Handle,
        name: &str,
    ) -> (&'static str, String) {
        let Handle { arena: id, offset, generation } = job;
        let (template, owner) = (template.word(), owner.word());
        (SPAWNED_VARIABLE, format!("{arena} {lifeline} {template} {owner} {id} {offset} {generation} {name}"))
    }

    pub(crate) fn from_environment() -> Result<Self, Error> {
        let ([arena, lifeline], [template, owner], job, name) = Self::parse(&of_environment(SPAWNED_VARIABLE)?)?;
        Ok(Self { arena: inherited(arena)?, lifeline: inherited(lifeline)?, template, owner, job, name })
    }

    pub(crate) fn parse(value: &str) -> Result<([RawFd; 2], [Owner; 2], Handle, String), Error> {
        let mut fields = Fields::in_value(value);
        let descriptors = [fields.number()?, fields.number()?];
        let owners = [fields.owner()?, fields.owner()?];
        let job = Handle { arena: fields.number()?, offset: fields.number()?, generation: fields.number()? };
        Ok((descriptors, owners, job, fields.text()?))
    }
}

fn of_environment(variable: &str) -> Result<String, Error> {
    std::env::var(variable).map_err(|_| Error::Protocol("this program is started by forkless, not by hand"))
}

/// The words of a variable, each checked.
pub(crate) struct Fields {
    words: std::vec::IntoIter<String>,
}

impl Fields {
    pub(crate) fn in_value(value: &str) -> Self {
        let words: Vec<String> = value.split(' ').map(str::to_owned).collect();
        Self { words: words.into_iter() }
    }

    pub(crate) fn text(&mut self) -> Result<String, Error> {
        self.words.next().ok_or(Error::Protocol("a variable with too few fields"))
    }

    pub(crate) fn number<T: std::str::FromStr>(&mut self) -> Result<T, Error> {
        self.text()?.parse().map_err(|_| Error::Protocol("a variable with a damaged number"))
    }

    pub(crate) fn owner(&mut self) -> Result<Owner, Error> {
        Owner::from_word(self.number()?).ok_or(Error::Protocol("a variable with a damaged slot"))
    }
}

/// A descriptor whose number this process found in a variable that its parent set.
#[allow(unsafe_code)]
pub(crate) fn inherited(number: RawFd) -> Result<OwnedFd, Error> {
    // SAFETY: the parent opened it for this process and this use, and named it once; nothing here knows it yet. Taken up
    // twice, it has been closed in between and is EBADF.
    unsafe { process::inherited(number) }.map_err(Error::system("take up an inherited descriptor"))
}

/// The command line of this process.
pub(crate) fn own_command() -> Option<Vec<String>> {
    let line = std::fs::read("/proc/self/cmdline").ok()?;
    let words = line.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
    let mut words: Vec<String> = words.collect();
    words.pop();
    Some(words)
}
