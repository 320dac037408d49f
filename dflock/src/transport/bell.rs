//! Who is woken when something happens on a connection.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::mutex::Mutex;

/// Rings when there may be something to read on a connection, or its alarm does.
///
/// Streams and alarms know nobody but their bell, whoever uses the connection. So they are not asked anew each time that it changes
/// hands, only after the bell has rung.
#[derive(Default)]
// what every ring touches lies together in memory
#[repr(C)]
pub(super) struct Bell {
    has_rung: AtomicBool,
    /// It may have been the alarm.
    has_alarmed: AtomicBool,
    post: Mutex<Post>,
}

/// What is to be done about a connection while it is held.
pub(crate) trait Duty: Send + Sync + 'static {
    /// Does it until it is over.
    fn attend(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Nobody will attend to it: the connection has ended, or the runtime.
    fn abandon(self: Arc<Self>);
}

/// There is no task any more that could attend to anything.
#[derive(Debug)]
pub(crate) struct Gone;

/// Where those stand who may hear it.
#[derive(Default)]
#[repr(C)]
struct Post {
    /// Who waits now. Woken once.
    listener: Option<Waker>,
    /// What the attendant is to see to when the bell rings, and nobody else waits for it.
    duty: Option<Arc<dyn Duty>>,
    /// Wakes the attendant; from its first sleep on.
    attendant: Option<Waker>,
    /// There is no attendant any more.
    gone: bool,
}

impl Bell {
    /// Whether it has rung since this was asked before.
    pub(super) fn has_rung(&self) -> bool {
        // what a swap reads is never old, and with it comes what was done before the bell was rung
        self.has_rung.load(Ordering::Relaxed) && self.has_rung.swap(false, Ordering::Acquire)
    }

    /// Whether the alarm may have rung since this was asked before.
    pub(super) fn has_alarmed(&self) -> bool {
        self.has_alarmed.load(Ordering::Relaxed) && self.has_alarmed.swap(false, Ordering::Acquire)
    }

    /// The alarm is to be looked at, as if it had rung.
    pub(super) fn suspect_alarm(&self) {
        self.has_alarmed.store(true, Ordering::Release);
    }

    /// Wakes `listener`, and nobody else, when it rings; at once if it has rung already.
    pub(super) fn listen(&self, listener: &Waker) {
        let waker = listener.clone();
        // not dropped behind the lock: nobody knows what an executor does then
        let before = self.post.lock().listener.replace(waker);
        drop(before);
        // whoever rang before found nobody
        if self.has_rung.load(Ordering::Acquire) {
            let listener = self.post.lock().listener.take();
            listener.into_iter().for_each(Waker::wake);
        }
    }

    /// Leaves `duty` to the attendant. Whether it sleeps; else it will look by itself.
    pub(super) fn entrust(&self, duty: Arc<dyn Duty>) -> Result<bool, Gone> {
        let mut post = self.post.lock();
        if post.gone {
            return Err(Gone);
        }
        let before = (post.listener.take(), post.duty.replace(duty));
        let asleep = post.attendant.is_some();
        drop(post);
        drop(before);
        Ok(asleep)
    }

    /// Takes the duty back. Whether it had not begun.
    pub(super) fn relieve(&self) -> bool {
        let duty = self.post.lock().duty.take();
        duty.is_some()
    }

    /// Wakes the attendant.
    pub(super) fn attend(&self) {
        let attendant = self.post.lock().attendant.clone();
        if let Some(attendant) = attendant {
            attendant.wake();
        }
    }

    /// The attendant's next duty.
    pub(super) fn poll_duty(&self, cx: &mut Context<'_>) -> Poll<Arc<dyn Duty>> {
        let mut post = self.post.lock();
        if let Some(duty) = post.duty.take() {
            return Poll::Ready(duty);
        }
        if !post.attendant.as_ref().is_some_and(|attendant| attendant.will_wake(cx.waker())) {
            post.attendant = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// The attendant goes, and leaves the duty that it had not begun.
    pub(super) fn leave(&self) -> Option<Arc<dyn Duty>> {
        let mut post = self.post.lock();
        post.gone = true;
        let (duty, attendant) = (post.duty.take(), post.attendant.take());
        drop(post);
        drop(attendant);
        duty
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Ordering::Release);
        let mut post = self.post.lock();
        let woken = match post.listener.take() {
            None if post.duty.is_some() => post.attendant.clone(),
            listener => listener,
        };
        drop(post);
        if let Some(woken) = woken {
            woken.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    /// Counts how often it was woken.
    #[derive(Default)]
    struct Count(AtomicU32);

    impl Count {
        fn get(&self) -> u32 {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Nothing;

    impl Duty for Nothing {
        fn attend(self: Arc<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(async {})
        }

        fn abandon(self: Arc<Self>) {}
    }

    fn somebody() -> (Arc<Count>, Waker) {
        let count = Arc::<Count>::default();
        (count.clone(), count.into())
    }

    /// A bell, and its waker.
    fn hung() -> (Arc<Bell>, Waker) {
        let bell = Arc::<Bell>::default();
        (bell.clone(), bell.into())
    }

    #[test]
    fn who_listened_last_is_woken_once() {
        let (bell, ring) = hung();
        let [(first, one), (second, two)] = [somebody(), somebody()];
        bell.listen(&one);
        bell.listen(&two);
        ring.wake_by_ref();
        ring.wake_by_ref();
        assert_eq!((first.get(), second.get()), (0, 1));
        assert!(bell.has_rung() && !bell.has_rung());
    }

    #[test]
    fn who_listens_after_it_rang_is_woken_at_once() {
        let (bell, ring) = hung();
        let (count, listener) = somebody();
        ring.wake_by_ref();
        bell.listen(&listener);
        assert_eq!(count.get(), 1);
        ring.wake();
        assert_eq!(count.get(), 1);
    }

    #[test]
    fn the_attendant_is_woken_for_its_duty_when_nobody_listens() {
        let (bell, ring) = hung();
        let [(attendant, sleeper), (listener, waker)] = [somebody(), somebody()];
        assert!(!bell.entrust(Arc::new(Nothing)).unwrap(), "it would sleep");
        let mut cx = Context::from_waker(&sleeper);
        assert!(bell.poll_duty(&mut cx).is_ready() && bell.poll_duty(&mut cx).is_pending());
        ring.wake_by_ref();
        assert_eq!(attendant.get(), 0, "it has nothing to do");
        assert!(bell.has_rung() && bell.entrust(Arc::new(Nothing)).unwrap(), "it would not sleep");
        bell.listen(&waker);
        ring.wake_by_ref();
        assert_eq!((attendant.get(), listener.get()), (0, 1));
        ring.wake_by_ref();
        assert_eq!((attendant.get(), listener.get()), (1, 1));
        assert!(bell.relieve() && !bell.relieve());
        ring.wake_by_ref();
        assert_eq!(attendant.get(), 1, "it was relieved");
    }

    #[test]
    fn who_had_listened_before_a_duty_began_is_forgotten() {
        let (bell, ring) = hung();
        let [(attendant, sleeper), (listener, waker)] = [somebody(), somebody()];
        assert!(bell.poll_duty(&mut Context::from_waker(&sleeper)).is_pending());
        bell.listen(&waker);
        assert!(bell.entrust(Arc::new(Nothing)).unwrap());
        ring.wake_by_ref();
        assert_eq!((attendant.get(), listener.get()), (1, 0));
    }

    #[test]
    fn an_attendant_that_has_gone_is_given_nothing() {
        let (bell, _) = hung();
        bell.entrust(Arc::new(Nothing)).unwrap();
        assert!(bell.leave().is_some() && bell.leave().is_none());
        bell.entrust(Arc::new(Nothing)).unwrap_err();
    }

    /// Wakes a thread.
    struct Unpark(thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    #[test]
    fn no_ring_is_missed() {
        const RINGS: u32 = 100_000;
        const FOREVER: Duration = Duration::from_mins(1);
        let (bell, ring) = hung();
        let said = Arc::new(AtomicU32::new(0));
        let heard = Arc::new(AtomicU32::new(0));
        let (saying, hearing) = (said.clone(), heard.clone());
        let ringer = thread::spawn(move || {
            for number in 1..=RINGS {
                saying.store(number, Ordering::Relaxed);
                ring.wake_by_ref();
                // now and then a ring waits until the one before was heard
                while number % 3 == 0 && hearing.load(Ordering::Acquire) < number {
                    thread::yield_now();
                }
            }
        });
        let listener = Waker::from(Arc::new(Unpark(thread::current())));
        while heard.load(Ordering::Relaxed) < RINGS {
            if bell.has_rung() {
                heard.store(said.load(Ordering::Relaxed), Ordering::Release);
            } else {
                bell.listen(&listener);
                let parked = Instant::now();
                thread::park_timeout(FOREVER);
                assert!(parked.elapsed() < FOREVER, "nobody rang");
            }
        }
        ringer.join().unwrap();
    }
}
