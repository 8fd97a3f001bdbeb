//! What is said when a scan fails: the words, the pointer, the record. None of it is on the hot path.
//!
//! Owns: finding the place of a fault from the containers that are open.
//! Does not own: what is a fault (`scan`).

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{Scanner, Stop};
use crate::decode::error::{DecodeError, Violation, pointer_segment};
use crate::decode::tape::OPEN;

impl<const LINES: bool> Scanner<'_, LINES> {
    #[cold]
    pub(super) fn expected(&self, what: &str) -> Box<Stop> {
        let found = match self.peek() {
            None => " where the body ends",
            Some(b'\n') if LINES => " where the line ends",
            Some(_) => "",
        };
        self.malformed("syntax", format!("expected {what} at byte {}{found}", self.at))
    }

    #[cold]
    pub(super) fn malformed(&self, code: &'static str, detail: String) -> Box<Stop> {
        Box::new(Stop::Malformed(self.violation(code, detail)))
    }

    #[cold]
    pub(super) fn too_many_values(&self) -> Box<Stop> {
        let detail = format!("more than {} keys and values in one body", self.limits.values_max);
        Box::new(Stop::Illegal(Violation::new("", "too-many-values", detail)))
    }

    #[cold]
    pub(super) fn note_illegal(&mut self, code: &'static str, detail: String) {
        let mut illegal = std::mem::take(&mut self.illegal);
        illegal.push_with(|| self.violation(code, detail));
        self.illegal = illegal;
    }

    /// A fault of the format outranks what was illegal before it; a bound is reported after that.
    pub(super) fn refusal(&mut self, stop: Stop) -> DecodeError {
        match stop {
            Stop::Malformed(violation) => DecodeError::Malformed(violation.into()),
            Stop::Illegal(violation) => {
                let mut illegal = std::mem::take(&mut self.illegal);
                illegal.push(violation);
                DecodeError::Illegal(illegal)
            }
        }
    }

    /// A violation at the value that is being read, with its pointer and its record.
    fn violation(&self, code: &'static str, detail: String) -> Violation {
        let mut pointer = String::new();
        let mut record = LINES.then_some(self.lines_read);
        for (depth, container) in self.open.iter().enumerate() {
            let index = container.node as usize;
            if container.is_object {
                let Some(name) = self.pending_key(index) else { break };
                write!(pointer, "/{}", pointer_segment(&name)).expect("writing to a String never fails");
                if !LINES && depth == 0 && name == "record" {
                    record = Some(0);
                }
            } else {
                let position = self.pending_element(index);
                if !LINES && depth == 1 && pointer == "/records" {
                    record = Some(position);
                }
                write!(pointer, "/{position}").expect("writing to a String never fails");
            }
        }
        Violation { index: record, pointer, code, detail }
    }

    /// The key of an open object whose value is not complete.
    fn pending_key(&self, object: usize) -> Option<Cow<'_, str>> {
        let mut key = object + 1;
        while key < self.nodes.len() {
            match self.nodes.get(key + 1) {
                Some(value) if value.next != OPEN => key = value.next as usize,
                Some(_) | None => return Some(self.name(key)),
            }
        }
        None
    }

    /// How many elements of an open array are complete.
    fn pending_element(&self, array: usize) -> usize {
        let mut element = array + 1;
        let mut complete = 0;
        while self.nodes.get(element).is_some_and(|node| node.next != OPEN) {
            element = self.nodes[element].next as usize;
            complete += 1;
        }
        complete
    }
}
