//! What HTTPS clients are met with in a build without TLS: there is no such value, so that the compiler leaves out whatever
//! would need one.

use std::convert::Infallible;

/// See the module's own words.
#[derive(Clone, Debug)]
pub struct Door(Infallible);

impl Door {
    /// Of what is not there nothing is called.
    pub fn never(&self) -> ! {
        match self.0 {}
    }

    /// The words of the options whose files held another thing.
    pub fn changes_since(&self, _before: &Door) -> Vec<&'static str> {
        self.never()
    }
}
