//! `ocirt verify` by an ordinary user.

use super::verify::{different, verify};
use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::need_ocirt;
use ocirt_integration::{probe, tests, user};

tests![a_users_container_is_compared_as_far_as_users_may_look];

/// The names in a namespace are only shown to who may join it.
fn a_users_container_is_compared_as_far_as_users_may_look() {
    need_ocirt();
    for ids in [user::one_id(), user::range()] {
        let container = Bundle::new().rootless(ids).start(probe!(sleep 600));
        let (status, verified) = verify(&container);
        let fields: Vec<String> = different(&verified).into_iter().map(|(field, _)| field).collect();
        // With a cgroup, there are rules for devices, which only root may read.
        let unknown = if user::has_suite() { &["hostname", "linux.resources.devices"][..] } else { &["hostname"] };
        assert_eq!(
            (status, fields.iter().map(String::as_str).collect::<Vec<_>>().as_slice()),
            (1, unknown),
            "{verified}"
        );
    }
}
