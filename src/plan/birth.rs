//! Where init is born: the namespaces that clone3(2) makes, and existing ones that it could not join by itself.

use std::rc::Rc;

use anyhow::{Result, ensure};

use crate::container::namespaces::{Join, Namespaces};
use crate::error::field;
use crate::sys::namespace::{self, Kind, Kinds};

/// The namespaces that init is cloned into: not the cgroup namespace, whose root is the cgroup that its maker is in,
/// and not the time namespace, whose offsets can be set only while nobody is in it.
pub fn cloned(new: Kinds) -> Kinds {
    new.without(Kind::Cgroup).without(Kind::Time)
}

/// Who joins which of the existing namespaces.
pub struct Split {
    /// The user namespace from inside which init is made.
    pub user: Option<Join>,
    /// Those that are joined before init is in its user namespace, from which there is no way there.
    pub born_in: Vec<Join>,
    /// Those that init joins by itself.
    pub joined: Vec<Join>,
    /// The pid namespace that init joins once everything is mounted: until then it makes helpers that nobody sees there.
    pub late: Option<Rc<Join>>,
}

/// From inside a user namespace there is no way into one of the host's. Only the cgroup namespace stays with init there:
/// its cgroup, in which it is born, need not be below that one's root.
pub fn split(namespaces: Namespaces) -> Result<Split> {
    let (new, private) = (namespaces.new, namespaces.private);
    let joins_user = private.contains(Kind::User) && !new.contains(Kind::User);
    let (users, mut others): (Vec<_>, Vec<_>) =
        namespaces.joined.into_iter().partition(|join| join.kind() == Kind::User);
    let user = users.into_iter().next().filter(|_| joins_user);
    if joins_user {
        // It may have no right to go where it is already.
        others.retain(|join| private.contains(join.kind()));
    }
    let late = others.iter().position(|join| is_late(join, new, private, user.as_ref()));
    let late = late.map(|place| Rc::new(others.remove(place)));
    let outside_only = |join: &Join| match join.kind() {
        Kind::Cgroup => new.contains(Kind::User),
        _ => joins_user || new.contains(Kind::User),
    };
    let (born_in, joined): (Vec<_>, Vec<_>) = others.into_iter().partition(outside_only);
    ensure!(
        !(new.contains(Kind::User) && born_in.iter().any(|join| join.kind() == Kind::Mount)),
        field!("linux.namespaces"; "an existing mount namespace cannot be joined from a new user namespace")
    );
    Ok(Split { user, born_in, joined, late })
}

/// Whether a namespace is a pid namespace that init can still join when it is in its user namespace. From any other one it
/// cannot mount the procfs either.
fn is_late(join: &Join, new: Kinds, private: Kinds, user: Option<&Join>) -> bool {
    let is_possible = match user {
        Some(user) => namespace::is_owned_by(join.fd(), user.fd()),
        None => !new.contains(Kind::User),
    };
    join.kind() == Kind::Pid && private.contains(Kind::Pid) && is_possible
}
