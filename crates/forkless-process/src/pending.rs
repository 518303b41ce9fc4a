//! A child between the request and its pid.

use std::sync::atomic::Ordering;
use std::time::Duration;

use forkless_ipc::{Content, Parcel};
use forkless_shm::slot::End;
use forkless_shm::{Arena, Handle, Lease, Owner, Role};
use forkless_sys::crash::point;
use forkless_sys::time::{Patience, SLICE};
use forkless_sys::{AsFd, Errno, futex, process};

use crate::client::kill;
use crate::protocol::{Method, Request};
use crate::{Child, Client, Error, Program};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// How the child begins.
    pub method: Method,
    /// Its name.
    pub name: &'a str,
    /// What it has to do.
    pub job: Content<'a>,
    /// A block with what the child takes over from this process, if the template shall learn that beforehand: see
    /// [`Runtime::learn`](crate::Runtime::learn). It lives until there is another one.
    pub surroundings: Option<&'a Lease>,
}

/// A child that was asked for and is not there yet. Dropped before it is, it never runs its job, or is killed.
#[derive(Debug)]
pub struct Pending {
    arena: &'static Arena,
    program: Program,
    method: Method,
    name: String,
    surroundings: Option<Handle>,
    job: Option<Parcel>,
    asked: Option<(&'static Client, Owner)>,
    tries: u32,
    /// How long a child may take to arrive whose template is gone.
    arriving: Option<Patience>,
}

/// How long to wait for a child that is about to write down its id before another one is asked for in its place, which costs a
/// slot. Nothing is wrong if it is alive and takes longer: it turns round.
const LAST_STEP: Duration = Duration::from_secs(1);

/// A template may be found dead only when it is asked: how often to go on with a new one.
const TRIES: u32 = 2;

impl Pending {
    /// Asks a template with this program for a child; [`Self::wait_within`] then tells when it is there.
    ///
    /// # Errors
    /// [`Error::System`] when the system refuses.
    pub fn ask_for(arena: &'static Arena, program: &Program, order: &Order<'_>) -> Result<Self, Error> {
        let job = Parcel::pack(arena, &order.job)?;
        point("start.packed");
        let mut pending = Self {
            arena,
            program: program.clone(),
            method: order.method,
            name: order.name.to_owned(),
            surroundings: order.surroundings.map(Lease::handle).transpose()?,
            job: Some(job),
            asked: None,
            tries: 0,
            arriving: None,
        };
        pending.ask()?;
        Ok(pending)
    }

    fn ask(&mut self) -> Result<(), Error> {
        let job = self.job.as_ref().ok_or(Error::Protocol("asked after the answer"))?.lease().handle()?;
        while self.tries < TRIES {
            self.tries += 1;
            let client = Client::get(self.arena, &self.program)?;
            if let Some(surroundings) = self.surroundings {
                client.announce(surroundings);
            }
            if let Some(standby) = self.claim_standby(client)? {
                self.asked = Some((client, standby));
                self.arena.assign(standby, job)?;
                point("start.assigned");
                // Should the template be gone, there is nothing to refill.
                let _ = client.send(Request::Refill, &[]);
                return Ok(());
            }
            let [Ok(stdin), Ok(stdout), Ok(stderr)] = [0, 1, 2].map(process::standard) else {
                return Err(Error::System { action: "copy the standard streams for the child", errno: Errno::MFILE });
            };
            let owner = self.arena.reserve_slot(Role::Child, &self.name)?;
            self.asked = Some((client, owner));
            let request = Request::Start { method: self.method, owner, job };
            let descriptors = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
            match client.send(request, &descriptors) {
                Ok(()) => {
                    point("start.asked");
                    return Ok(());
                }
                Err(errno) => {
                    self.give_up();
                    client.has_gone(errno).map_err(Error::system("ask the template for a child process"))?;
                }
            }
        }
        let pid = Client::last_pid();
        Err(Error::TemplateDied { pid, name: self.name.clone() })
    }

    /// A process that waits for a job, if there is one that would be like a fresh one.
    fn claim_standby(&self, client: &Client) -> Result<Option<Owner>, Error> {
        let template = client.owner();
        let fits = self.method == Method::Forkserver && self.arena.streams(template)? == process::own_streams();
        Ok(if fits { self.arena.claim_standby(template, &self.name)? } else { None })
    }

    /// Waits for the child, at most `bound` (and at most 50 ms); `None` if it is not there yet.
    ///
    /// # Errors
    /// [`Error::Threads`], [`Error::Device`], [`Error::TemplateDied`], or [`Error::System`] when the system refuses.
    pub fn wait_within(&mut self, bound: Duration) -> Result<Option<Child>, Error> {
        let Some((client, owner)) = self.asked else { return Err(Error::Protocol("nothing was asked for")) };
        let words = (self.arena.pid_word(owner), self.arena.end_word(owner));
        let (Some(pid), Some(end)) = words else { return Err(Error::Protocol("a slot outside the arena")) };
        if let Some(End::NotStarted(reason)) = self.arena.end(owner) {
            let note = self.arena.process(owner).map_or_else(String::new, |process| process.name);
            self.give_up();
            return Err(client.refusal(reason, note));
        }
        let started = pid.load(Ordering::Acquire);
        if started != 0 {
            let Some(job) = self.job.take() else { return Err(Error::Protocol("asked after the answer")) };
            // On failure to watch it, dropping this kills it.
            let child = Child::new(self.arena, owner, started, &self.name, client, job)?;
            self.asked = None;
            return Ok(Some(child));
        }
        // Without a template only the child itself writes down its id, before anything else.
        if !client.is_alive() && pid.load(Ordering::Acquire) == 0 {
            self.arena.return_slot(owner)?;
            let is_late = self.arriving.get_or_insert_with(|| Patience::new(LAST_STEP)).is_over();
            // It died on its way, unseen, or was stopped there: nobody can tell.
            let was_turned_away = is_late && self.arena.turn_away(owner)?;
            if was_turned_away || !self.has_arrived(owner) {
                (self.asked, self.arriving) = (None, None);
                self.ask()?;
            }
        }
        futex::wait_either((pid, 0), (end, 0), bound.min(SLICE));
        Ok(None)
    }

    fn give_up(&mut self) {
        let Some((_, owner)) = self.asked.take() else { return };
        let _ = self.arena.return_slot(owner);
        if self.has_arrived(owner) {
            kill(self.arena, owner);
            let _ = self.arena.disown(owner);
        }
        let _ = self.arena.return_slot(owner);
    }

    /// After its slot was given back: a child that comes late turns round, one that was there already has it still.
    fn has_arrived(&self, owner: Owner) -> bool {
        self.arena.process(owner).is_some()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.give_up();
    }
}
