//! Questions that the server knows by name, because it was told them in this session. Pure.
//!
//! To understand a question costs the server more than to answer it: four fifths of the time of `/read-write` and `/status`
//! were that. A prepared statement (PostgreSQL manual, PREPARE) is understood once. It stays in the server's session, and so
//! is only for one that nobody else gets; and the role alone is asked as cheaply without.

use super::query;

/// So many names in a session. There are fewer questions than that; but one that was cut off may or may not have been
/// learned, and is told again by another name.
const MAX_NAMES: usize = 64;

/// The questions of one session.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Whether the server is told any.
    is_on: bool,
    /// Those it has answered by name.
    known: Vec<Known>,
    /// Names that were used so far.
    names: usize,
}

#[derive(Debug)]
struct Known {
    question: String,
    name: usize,
}

impl Prepared {
    /// For a session that nobody else gets, or, where `is_on` is false, for one in which nothing must be left behind.
    pub(super) fn new(is_on: bool) -> Prepared {
        Prepared { is_on, known: Vec::new(), names: 0 }
    }

    /// The text that asks this question, and the name that it teaches the server, if any.
    pub(super) fn spell(&mut self, question: &str) -> (String, Option<usize>) {
        if let Some(known) = self.known.iter().find(|known| known.question == question) {
            return (format!("EXECUTE pgsqlchk_{}", known.name), None);
        }
        if !self.is_on || self.names == MAX_NAMES || question == query::ROLE {
            return (question.to_owned(), None);
        }
        self.names += 1;
        let name = self.names;
        (format!("PREPARE pgsqlchk_{name} AS {question}; EXECUTE pgsqlchk_{name}"), Some(name))
    }

    /// The server has answered a question that taught it this name.
    pub(super) fn learned(&mut self, question: &str, name: usize) {
        self.known.push(Known { question: question.to_owned(), name });
    }

    /// The server does not know what it was told, or knows what it was not told: the session is shared after all. Says
    /// whether that is news.
    pub(super) fn give_up(&mut self) -> bool {
        self.known.clear();
        std::mem::replace(&mut self.is_on, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_told_once_and_then_asked_by_its_name() {
        let mut prepared = Prepared::new(true);
        let (text, name) = prepared.spell("SELECT 1");
        assert_eq!((text.as_str(), name), ("PREPARE pgsqlchk_1 AS SELECT 1; EXECUTE pgsqlchk_1", Some(1)));
        // Cut off: who knows whether the server has learned it.
        let (text, name) = prepared.spell("SELECT 1");
        assert_eq!((text.as_str(), name), ("PREPARE pgsqlchk_2 AS SELECT 1; EXECUTE pgsqlchk_2", Some(2)));
        prepared.learned("SELECT 1", 2);
        assert_eq!(prepared.spell("SELECT 1"), ("EXECUTE pgsqlchk_2".to_owned(), None));
        assert_eq!(prepared.spell("SELECT 2").1, Some(3));
        assert!(prepared.give_up() && !prepared.give_up());
        assert_eq!(prepared.spell("SELECT 1"), ("SELECT 1".to_owned(), None));
    }

    #[test]
    fn a_session_that_others_get_is_told_nothing_and_one_of_our_own_not_without_end() {
        assert_eq!(Prepared::new(false).spell("SELECT 1"), ("SELECT 1".to_owned(), None));
        let mut prepared = Prepared::new(true);
        assert_eq!(prepared.spell(query::ROLE), (query::ROLE.to_owned(), None));
        (0..MAX_NAMES).for_each(|_| assert!(prepared.spell("SELECT 1").1.is_some()));
        assert_eq!(prepared.spell("SELECT 1"), ("SELECT 1".to_owned(), None));
    }
}
