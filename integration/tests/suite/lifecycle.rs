//! create, start, state, kill, delete, run: in every order.

use ocirt_integration::bundle::Bundle;
use ocirt_integration::{probe, tests};

tests![a_container_runs];

fn a_container_runs() {
    assert_eq!(Bundle::new().file("secret", "42").run(probe!(read "/secret")).answer(), "42");
}
