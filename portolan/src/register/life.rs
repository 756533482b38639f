//! What a registration does about signals, about its command's end and about what the agent says. Pure.
//!
//! The order is the point: nobody is sent here any more, and only then the command hears that it shall end.

use nix::sys::signal::Signal;

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Signal(Signal),
    /// The command ended, with this exit code.
    Ended(i32),
    /// Nobody is sent here any more, or it is not worth waiting for.
    Left,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell the agent that this goes, and then say [`Event::Left`]: at the latest when the grace is over.
    Deregister,
    /// Pass a signal on to the command.
    Forward(Signal),
    /// End with this exit code; whatever is registered goes at once.
    Exit(i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Told to end by this signal, and waiting for the nodes.
    Leaving(Signal),
    /// The command has been told.
    Ending,
}

/// One registration, with or without a command.
#[derive(Debug)]
pub struct Life {
    has_command: bool,
    stage: Stage,
}

impl Life {
    pub fn new(has_command: bool) -> Self {
        Self { has_command, stage: Stage::Serving }
    }

    /// What is to be done now. `registered`: somebody may be sent here.
    pub fn handle(&mut self, event: &Event, registered: bool) -> Option<Action> {
        match (event, self.stage) {
            (Event::Ended(code), _) => Some(Action::Exit(*code)),
            (Event::Signal(signal), Stage::Serving) if self.ends(*signal) => {
                if registered {
                    self.stage = Stage::Leaving(*signal);
                    Some(Action::Deregister)
                } else {
                    self.end(*signal)
                }
            }
            // Who says it again does not want to wait.
            (Event::Signal(signal), Stage::Leaving(_)) if self.ends(*signal) => self.end(*signal),
            (Event::Signal(signal), _) => self.has_command.then_some(Action::Forward(*signal)),
            (Event::Left, Stage::Leaving(signal)) => self.end(signal),
            (Event::Left, _) => None,
        }
    }

    fn end(&mut self, signal: Signal) -> Option<Action> {
        self.stage = Stage::Ending;
        Some(if self.has_command { Action::Forward(signal) } else { Action::Exit(0) })
    }

    /// Signals by which people and service managers end programs. Without a command there is nobody who could mean
    /// something else by a hang-up.
    fn ends(&self, signal: Signal) -> bool {
        matches!(signal, Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT)
            || (signal == Signal::SIGHUP && !self.has_command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Event = Event::Signal(Signal::SIGTERM);
    const HUP: Event = Event::Signal(Signal::SIGHUP);

    fn told(has_command: bool, events: &[(Event, bool)]) -> Vec<Option<Action>> {
        let mut life = Life::new(has_command);
        events.iter().map(|(event, registered)| life.handle(event, *registered)).collect()
    }

    #[test]
    fn the_command_hears_it_after_the_nodes() {
        let int = Event::Signal(Signal::SIGINT);
        assert_eq!(
            told(
                true,
                &[(HUP, true), (int, true), (HUP, true), (Event::Left, true), (TERM, true), (Event::Ended(3), true)]
            ),
            [
                Some(Action::Forward(Signal::SIGHUP)),
                Some(Action::Deregister),
                Some(Action::Forward(Signal::SIGHUP)),
                Some(Action::Forward(Signal::SIGINT)),
                Some(Action::Forward(Signal::SIGTERM)),
                Some(Action::Exit(3)),
            ]
        );
    }

    #[test]
    fn a_second_time_is_in_a_hurry() {
        assert_eq!(
            told(true, &[(TERM, true), (TERM, true), (Event::Left, true)]),
            [Some(Action::Deregister), Some(Action::Forward(Signal::SIGTERM)), None]
        );
        assert_eq!(told(false, &[(TERM, true), (TERM, true)]), [Some(Action::Deregister), Some(Action::Exit(0))]);
    }

    #[test]
    fn where_nobody_is_sent_nobody_waits() {
        assert_eq!(told(true, &[(TERM, false)]), [Some(Action::Forward(Signal::SIGTERM))]);
        assert_eq!(told(false, &[(TERM, false)]), [Some(Action::Exit(0))]);
    }

    #[test]
    fn the_end_of_the_command_is_the_end() {
        assert_eq!(told(true, &[(Event::Ended(0), true)]), [Some(Action::Exit(0))]);
        assert_eq!(
            told(true, &[(TERM, true), (Event::Ended(143), true)]),
            [Some(Action::Deregister), Some(Action::Exit(143))]
        );
    }

    #[test]
    fn without_a_command() {
        assert_eq!(told(false, &[(HUP, true), (Event::Left, true)]), [Some(Action::Deregister), Some(Action::Exit(0))]);
        assert_eq!(told(false, &[(Event::Signal(Signal::SIGUSR1), true)]), [None]);
    }
}
