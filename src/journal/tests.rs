use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Condvar, mpsc};

use tracing::field::{Field, Visit};
use tracing::{debug, info};

use super::*;

/// Far more than anything here takes.
const DEADLINE: Duration = Duration::from_secs(30);

/// Standard error that can be made to stand still.
#[derive(Clone, Default)]
struct Paper(Arc<(Mutex<Written>, Condvar)>);

#[derive(Default)]
struct Written {
    text: String,
    is_stalled: bool,
    /// Somebody waits to write.
    waits: bool,
}

impl Paper {
    fn stall(&self, is_stalled: bool) {
        self.0.0.lock().expect("paper").is_stalled = is_stalled;
        self.0.1.notify_all();
    }

    fn wait_for(&self, condition: impl Fn(&Written) -> bool) -> String {
        let written = self.0.0.lock().expect("paper");
        let (written, late) = self
            .0
            .1
            .wait_timeout_while(written, DEADLINE, |written| !condition(written))
            .expect("paper");
        assert!(!late.timed_out(), "only this came: {}", written.text);
        written.text.clone()
    }

    fn lines(&self) -> Vec<String> {
        let text = self.wait_for(|_| true);
        text.lines().map(Into::into).collect()
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = self.0.0.lock().expect("paper");
        written.waits = true;
        self.0.1.notify_all();
        written = self
            .0
            .1
            .wait_while(written, |written| written.is_stalled)
            .expect("paper");
        written.waits = false;
        written.text.push_str(&String::from_utf8_lossy(bytes));
        self.0.1.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log() -> (Paper, Arc<Out>) {
    let paper = Paper::default();
    let out = Out::new(Sink::Priorities(Box::new(paper.clone())));
    (paper, Arc::new(out))
}

fn saying<T>(out: &Arc<Out>, say: impl FnOnce() -> T) -> T {
    let log = tracing_subscriber::registry().with(ToQueue(Arc::clone(out)));
    hearing(log, say)
}

/// While subscribers come and go, or change their levels, in several threads, tracing asks the wrong one now and then
/// whether a message is of interest. In life there is one for all; so one at a time here.
fn hearing<T>(log: impl Subscriber + Send + Sync, say: impl FnOnce() -> T) -> T {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    tracing::subscriber::with_default(log, say)
}

/// Keeps what is said.
struct Keep(mpsc::Sender<Record>);

impl<S: Subscriber> Layer<S> for Keep {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let _ = self.0.send(Record::of(event));
    }
}

fn record_of(say: impl FnOnce()) -> Record {
    let (sender, records) = mpsc::channel();
    let keep = tracing_subscriber::registry().with(Keep(sender));
    hearing(keep, say);
    records.recv().expect("the record")
}

fn no_loss(count: u64) {
    panic!("{count} messages were lost");
}

#[test]
fn people_read_a_sentence_and_its_details_but_no_fields() {
    let paper = Paper::default();
    let out = Arc::new(Out::new(Sink::People(Box::new(paper.clone()))));
    saying(&out, || {
        warn!(
            MESSAGE_ID = message_id::REMOTE_DOWN,
            SERSYNC_REMOTE = "b::d",
            SERSYNC_EXIT = 10,
            kind = "x",
            "{} is unreachable",
            "b::d"
        );
    });
    let lines = paper.lines();
    let (time, sentence) = lines[0].split_once(' ').expect("a time");
    assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    assert_eq!(sentence, " WARN b::d is unreachable kind=x");
    assert_eq!(lines.len(), 1);
}

#[test]
fn each_line_elsewhere_has_its_priority() {
    let (paper, out) = log();
    saying(&out, || {
        error!("two\nlines");
        warn!("a");
        info!("b");
        debug!("c");
    });
    assert_eq!(
        paper.lines(),
        ["<3>two", "<3>lines", "<4>a", "<6>b", "<7>c"]
    );
}

#[test]
fn the_journal_gets_the_fields_under_our_names_and_without_quotes() {
    #[derive(Clone, Default)]
    struct Journald(Arc<Mutex<BTreeMap<String, String>>>);

    impl<S: Subscriber> Layer<S> for Journald {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            event.record(&mut Fields(&mut self.0.lock().expect("fields")));
        }
    }

    struct Fields<'a>(&'a mut BTreeMap<String, String>);

    impl Visit for Fields<'_> {
        fn record_str(&mut self, field: &Field, value: &str) {
            self.0.insert(field.name().into(), value.into());
        }

        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            panic!("{field} would be written with {value:?}");
        }
    }

    let record = record_of(|| {
        warn!(
            SERSYNC_PATH = %"a \"b\"",
            MESSAGE_ID = message_id::PATH_FAILED,
            SERSYNC_EXIT = 23,
            attempts = 2,
            "{} failed",
            "a \"b\""
        );
    });
    let journald = Journald::default();
    let subscriber = tracing_subscriber::registry().with(journald.clone());
    // Another thread, as in life.
    std::thread::spawn(move || record.replay(&subscriber))
        .join()
        .expect("it is written");
    let fields = journald.0.lock().expect("fields").clone();
    let expected = [
        ("MESSAGE_ID", message_id::PATH_FAILED),
        ("SERSYNC_EXIT", "23"),
        ("SERSYNC_PATH", "a \"b\""),
        ("message", "a \"b\" failed attempts=2"),
    ];
    assert_eq!(
        fields,
        expected
            .map(|(name, value)| (name.into(), value.into()))
            .into()
    );
}

#[test]
fn a_log_that_stands_still_holds_nobody_up_and_what_is_lost_is_counted() {
    static LOST: Mutex<u64> = Mutex::new(0);
    let (paper, out) = log();
    paper.stall(true);
    out.spawn_writer(|count| *LOST.lock().expect("a number") += count);
    saying(&out, || {
        info!("0");
        paper.wait_for(|written| written.waits);
        for number in 1..BOUNDS.records + 11 {
            debug!("{number}");
        }
    });
    assert_eq!(paper.lines(), [""; 0]);
    paper.stall(false);
    out.queue.close(DEADLINE);
    assert_eq!(paper.lines().len(), BOUNDS.records + 1);
    assert_eq!(*LOST.lock().expect("a number"), 10);
}

#[test]
fn long_messages_are_bounded_by_their_bytes() {
    let (paper, out) = log();
    paper.stall(true);
    out.spawn_writer(|_| ());
    let long = "x".repeat(BOUNDS.bytes / 4);
    saying(&out, || {
        for _ in 0..100 {
            debug!("{long}");
        }
    });
    paper.stall(false);
    out.queue.close(DEADLINE);
    assert!(paper.lines().len() <= 4, "{}", paper.lines().len());
}

#[test]
fn the_last_words_are_written_before_the_log_ends() {
    let (paper, out) = log();
    out.spawn_writer(no_loss);
    saying(&out, || {
        for number in 0..1000 {
            debug!("{number}");
        }
    });
    out.queue.close(DEADLINE);
    assert_eq!(paper.lines().len(), 1000);
    saying(&out, || debug!("after the end"));
    assert_eq!(
        paper.lines().last().map(String::as_str),
        Some("<7>after the end")
    );
}

#[test]
fn an_end_does_not_wait_for_ever_for_a_log_that_stands_still() {
    let (paper, out) = log();
    paper.stall(true);
    out.spawn_writer(no_loss);
    saying(&out, || info!("never written"));
    paper.wait_for(|written| written.waits);
    out.queue.close(Duration::from_millis(10));
    // Would wait for the writer if it were not given up.
    saying(&out, || info!("not even this"));
    paper.stall(false);
}

#[test]
fn a_flush_waits_until_all_is_written() {
    let (paper, out) = log();
    out.spawn_writer(no_loss);
    for number in 1..100 {
        saying(&out, || debug!("{number}"));
        out.queue.flush(DEADLINE);
        assert_eq!(paper.lines().len(), number);
    }
}

#[test]
fn a_flood_from_one_place_is_cut_and_its_last_message_is_told() {
    let (paper, out) = log();
    out.spawn_writer(no_loss);
    saying(&out, || {
        for number in 1..=1000 {
            warn!("a remote is gone {number}");
        }
        info!("another place");
    });
    out.queue.close(DEADLINE);
    let lines = paper.lines();
    assert_eq!(lines.len(), 202);
    assert_eq!(lines[200], "<6>another place");
    assert_eq!(
        lines[201],
        "<4>a remote is gone 1000 (the last of 800 such messages)"
    );
}

mod limit_by_time {
    use super::super::limit::{BURST, Limit, WINDOW};
    use super::*;

    fn record() -> Record {
        record_of(|| info!("again"))
    }

    #[test]
    fn what_was_left_out_is_told_when_its_time_is_over() {
        let (mut limit, begin, record) = (Limit::default(), Instant::now(), record());
        for _ in 0..BURST {
            assert!(limit.admit(record.clone(), begin).is_some());
        }
        assert_eq!(limit.next_due(), None);
        assert!(limit.admit(record.clone(), begin).is_none());
        assert_eq!(limit.next_due(), Some(begin + WINDOW));
        assert!(limit.take_due(begin).is_empty());
        let told = limit.take_due(begin + WINDOW);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].sentence(), "again");
        assert_eq!(limit.next_due(), None);
        assert!(limit.admit(record, begin + WINDOW).is_some());
    }

    #[test]
    fn a_message_now_and_then_is_never_left_out() {
        let (mut limit, begin, record) = (Limit::default(), Instant::now(), record());
        for number in 0..BURST * 10 {
            let now = begin + WINDOW / BURST * number;
            assert!(limit.admit(record.clone(), now).is_some(), "{number}");
        }
    }
}

#[test]
fn the_level_is_that_of_our_own_words() {
    let levels = [
        (LogLevel::Emergency, LogLevel::Error),
        (LogLevel::Error, LogLevel::Error),
        (LogLevel::Warning, LogLevel::Warning),
        (LogLevel::Notice, LogLevel::Info),
        (LogLevel::Info, LogLevel::Info),
        (LogLevel::Debug, LogLevel::Debug),
    ];
    let (layer, handle) = reload::Layer::new(filter(LogLevel::Info));
    let target = LogTarget::Console;
    let control = Control { handle, target };
    hearing(tracing_subscriber::registry().with(layer), || {
        for (asked, shown) in levels {
            control.set_level(asked);
            assert_eq!(control.level(), shown, "{asked}");
        }
    });
}

#[test]
fn the_level_can_be_changed_while_it_runs() {
    let (paper, out) = log();
    let (layer, handle) = reload::Layer::new(filter(LogLevel::Info));
    let target = LogTarget::Console;
    let control = Control { handle, target };
    let log = tracing_subscriber::registry()
        .with(layer)
        .with(ToQueue(Arc::clone(&out)));
    hearing(log, || {
        let say = || {
            debug!(target: "sersync::lane", "ours");
            debug!(target: "zbus::connection", "theirs");
            info!("news");
        };
        say();
        assert_eq!(paper.lines(), ["<6>news"]);
        control.set_level(LogLevel::Debug);
        say();
        assert_eq!(paper.lines(), ["<6>news", "<7>ours", "<6>news"]);
        control.set_level(LogLevel::Error);
        say();
        assert_eq!(paper.lines().len(), 3);
    });
}

#[test]
fn each_message_has_an_id_of_its_own() {
    let ids: std::collections::BTreeSet<_> = message_id::ALL.iter().map(|(_, id)| id).collect();
    assert_eq!(ids.len(), message_id::ALL.len());
    for (name, id) in message_id::ALL {
        let is_id = id.len() == 32
            && id
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        assert!(
            is_id,
            "{name}: journald takes 32 lower-case hexadecimal digits"
        );
    }
}
