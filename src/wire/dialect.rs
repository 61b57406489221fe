//! What differs between the protocols that are spoken here. Pure.
//!
//! Within the agent every answer travels as an HTTP reply, over the same lanes with the same deadlines; HAProxy's
//! agent-check gets nothing but its body.

use super::head::RequestHead;
use crate::config::Protocol;
use crate::instance::{Needs, Observation};
use crate::reason::Reason;
use crate::reply::{AgentReply, Background, HttpReply, http_reply};
use crate::verdict::{Standing, Target};

/// What a head asks, or the reply to a head that asks nothing we know.
pub(crate) fn what_is_asked(
    protocol: Protocol,
    request: &RequestHead,
    standing: &Standing,
) -> Result<Target, HttpReply> {
    let target = standing.read(&request.target);
    match protocol {
        Protocol::Http if !request.has_known_method() => Err(HttpReply::method_not_allowed()),
        Protocol::Http => {
            target.and_then(Target::outside_agent_checks).map_err(|error| HttpReply::of_target_error(&error))
        }
        Protocol::Agent => match target {
            Ok(target) if !target.path.is_document() => Ok(target),
            // No state of a server follows from a document.
            Ok(_) | Err(_) => Err(document(AgentReply::BAD_REQUEST)),
        },
    }
}

/// What has to be observed, or `None` where PostgreSQL is not asked at all.
pub(crate) fn needs(protocol: Protocol, target: Target, has_peers: bool) -> Option<Needs> {
    let needs = if has_peers { target.needs_beside_peers() } else { target.needs() }?;
    Some(match protocol {
        Protocol::Http => needs,
        // A node that drains does so for every target.
        Protocol::Agent => Needs { drain: true, despite_drain: false, ..needs },
    })
}

/// The reply to a target that the instance was looked at for.
pub(crate) fn reply(
    protocol: Protocol,
    target: Target,
    observation: &Observation,
    background: &Background<'_>,
) -> HttpReply {
    match protocol {
        Protocol::Http => http_reply(target, observation, background),
        Protocol::Agent => {
            // The code is only counted; that of HTTP tells a standby on `/`, too.
            let code = HttpReply::of_verdict(target, AgentReply::judge(target, observation)).status();
            HttpReply::line(code, AgentReply::of_observation(target, observation).line())
        }
    }
}

/// The reply to a target that needs no look.
pub(crate) fn alive(protocol: Protocol) -> HttpReply {
    match protocol {
        Protocol::Http => HttpReply::alive(),
        Protocol::Agent => document(AgentReply::ALIVE),
    }
}

/// Cannot be verified.
pub(crate) fn down(protocol: Protocol, reason: Reason) -> HttpReply {
    match protocol {
        Protocol::Http => HttpReply::down(reason),
        Protocol::Agent => document(AgentReply::Down(reason)),
    }
}

/// What the client gets of a whole reply.
pub(crate) fn on_the_wire(protocol: Protocol, mut bytes: Vec<u8>) -> Vec<u8> {
    match protocol {
        Protocol::Http => bytes,
        Protocol::Agent => {
            let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
            bytes.drain(..end.map_or(bytes.len(), |end| end + 4));
            bytes
        }
    }
}

fn document(reply: AgentReply) -> HttpReply {
    HttpReply::line(reply.http_status(), reply.line())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Path;

    #[test]
    fn an_agent_check_gets_its_line_and_nothing_else() {
        let reply = down(Protocol::Agent, Reason::AgentStopping).to_bytes(false);
        assert_eq!(on_the_wire(Protocol::Agent, reply.clone()), b"down #agent-stopping\n");
        assert_eq!(on_the_wire(Protocol::Http, reply.clone()), reply);
        assert_eq!(on_the_wire(Protocol::Agent, b"nothing of ours".to_vec()), b"");
    }

    #[test]
    fn every_target_of_an_agent_check_looks_for_the_drain_file() {
        for path in Path::ALL {
            let asked = what_is_asked(Protocol::Agent, &RequestHead::get(path.name()), &Standing::default());
            match path {
                path if path.is_document() => assert_eq!(asked, Err(document(AgentReply::BAD_REQUEST))),
                // Never touches PostgreSQL, drained or not.
                Path::Liveness => assert_eq!(needs(Protocol::Agent, asked.unwrap(), true), None),
                path => {
                    let needs = needs(Protocol::Agent, asked.unwrap(), true).unwrap();
                    assert!(needs.drain && !needs.despite_drain, "{path:?}");
                }
            }
        }
    }
}
