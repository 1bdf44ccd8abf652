//! What: what a long operation says while it runs.
//! Why here: the library does not draw; who calls it decides what is shown.
//! Pre: none.
//! Post: events may come from several threads.

use std::fmt;
use std::sync::Arc;

/// How far something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What is being done, in a few words.
    pub stage: String,
    /// How much of it is done.
    pub done: u64,
    /// How much there is, if that is known.
    pub total: Option<u64>,
    /// Whether the amounts are bytes.
    pub bytes: bool,
}

impl Event {
    /// A stage without an amount.
    pub fn stage(stage: impl Into<String>) -> Event {
        Event { stage: stage.into(), done: 0, total: None, bytes: false }
    }

    /// A stage with an amount of things.
    pub fn count(stage: impl Into<String>, done: u64, total: u64) -> Event {
        Event { stage: stage.into(), done, total: Some(total), bytes: false }
    }
}

type Callback = Arc<dyn Fn(&Event) + Send + Sync>;

/// Who listens.
#[derive(Clone, Default)]
pub struct Listener(Option<Callback>);

impl Listener {
    /// Calls a function for each event.
    pub fn new(listener: impl Fn(&Event) + Send + Sync + 'static) -> Listener {
        Listener(Some(Arc::new(listener)))
    }

    /// Tells an event.
    pub fn tell(&self, event: Event) {
        if let Some(listener) = &self.0 {
            listener(&event);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Listener" } else { "Listener(nobody)" })
    }
}
