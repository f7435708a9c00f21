//! What can go wrong with a request, and when it does.

/// What is asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Put,
    Get,
    Head,
    List,
    Delete,
    Other,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// This status, perhaps with a Retry-After.
    Refuse(u16, Option<&'static str>),
    /// The connection breaks while the request's body is sent.
    CutUpload,
    /// The connection breaks before the request had an effect.
    CutBefore,
    /// The connection breaks after the request had an effect.
    CutAfter,
    /// No answer comes, and the request has no effect.
    SilentBefore,
    /// No answer comes, but the request has its effect.
    SilentAfter,
    /// The request arrives twice.
    Twice,
    /// One bit of the answer's body is another.
    Flip,
    /// The answer's body breaks off.
    CutDownload,
    /// The newest so many objects are not in the listing.
    Stale(usize),
}

/// A fault, and which requests it strikes.
#[derive(Debug, Clone)]
pub struct Rule {
    kind: Kind,
    skip: usize,
    times: usize,
    fault: Fault,
}

impl Rule {
    /// Strikes every request of this kind.
    pub fn every(kind: Kind, fault: Fault) -> Self {
        Self {
            kind,
            skip: 0,
            times: usize::MAX,
            fault,
        }
    }

    /// Strikes the request of this kind with this number, from 0.
    pub fn at(number: usize, kind: Kind, fault: Fault) -> Self {
        Self {
            skip: number,
            times: 1,
            ..Self::every(kind, fault)
        }
    }

    /// Strikes all from the one with this number, from 0.
    pub fn from(number: usize, kind: Kind, fault: Fault) -> Self {
        Self {
            skip: number,
            ..Self::every(kind, fault)
        }
    }

    pub(super) fn strike(&mut self, kind: Kind) -> Option<Fault> {
        if kind != self.kind || self.times == 0 {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times -= 1;
        Some(self.fault)
    }
}
