//! Over TCP, as it is.

use ureq::config::Config;
use ureq::unversioned::resolver::Resolver;
use ureq::unversioned::transport::DefaultConnector;

use crate::tls::PeerTls;

/// Who asks over it.
pub(super) fn agent(config: Config, resolver: impl Resolver, _: Option<&PeerTls>) -> ureq::Agent {
    ureq::Agent::with_parts(config, DefaultConnector::default(), resolver)
}
