//! Flows spread over workers: whatever the workers' turns are, what leaves is what leaves of a
//! comparator alone, never earlier, and in the end nothing less.
//!
//! A comparator alone goes through a script first, and the step at which each P left it is noted. A
//! P that leaves a dispatcher at an earlier step was let out by a worker that knew too little, or knew of
//! a commit too early; one that is still inside when all workers have done everything was kept by
//! a worker that knew too late (rules R1 to R3).

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use colo_testkit::rng::{Rng, for_cases};
use dpdk_colo::compare::{Comparator, Counts, Divergence, Limits, Policy, Reason, Release};
use dpdk_colo::flow::FlowKey;
use dpdk_colo::frame::BURST;
use dpdk_colo::packet::Kind;
use dpdk_colo::spread::{Dispatcher, RedirectionTable, RingSizes, Worker, rings};

use crate::harness::as_sent;
use crate::script::{Script, Step, Tagged};

/// In steps.
const TIMEOUT: u64 = 20;

/// Bounds that no case reaches. No flow is forgotten either: which one is depends on all the others.
const LIMITS: Limits = Limits {
    primary: 2048,
    secondary: 1 << 14,
    history: 1 << 13,
    flows: 1 << 10,
    timeout: TIMEOUT,
    patience: 1,
    idle: 1 << 40,
    half_open: 1 << 40,
};

/// A P as it left.
#[derive(Clone, Debug, PartialEq)]
struct Left {
    bytes: Vec<u8>,
    cleared: u64,
    witnessed: Option<u64>,
}

/// Why something is overdue, and the flow of a P.
type Overdue = (Reason, Option<FlowKey>);

/// What became of a script.
#[derive(Default)]
struct Outcome {
    /// By the number of the P and of its part: the step at which it left, and how.
    left: BTreeMap<(usize, usize), (usize, Left)>,
    /// Numbers of P in the order in which they left, by their flow. Of what cannot be read nobody
    /// knows the flow, so it has an order of its own.
    order: HashMap<(FlowKey, bool), Vec<usize>>,
    /// P that left behind the ISNs of their flow, with their epoch.
    synchronized: HashMap<usize, u64>,
    /// Differences by the epoch in which they were reported.
    reported: Vec<(u64, Reason, Option<FlowKey>)>,
    /// By the step: what was overdue. Where connections follow one another on the same ports, only
    /// P are asked for: an S that waited for the next connection may stand behind a younger one.
    overdue: BTreeMap<usize, Option<Overdue>>,
    discarded: u64,
    held: usize,
    counts: Counts,
}

impl Outcome {
    fn leaves(&mut self, release: &Release<Tagged>, at: usize) {
        let number = release.frame.number;
        let left = Left {
            bytes: release.frame.bytes(),
            cleared: release.cleared,
            witnessed: release.witnessed,
        };
        let part = self.left.range((number, 0)..(number + 1, 0)).count();
        self.left.insert((number, part), (at, left));
        let packet = release.frame.packet();
        let unreadable = matches!(packet.kind, Kind::Unreadable(_));
        let order = self.order.entry((packet.key, unreadable)).or_default();
        order.push(number);
    }
}

/// What can be added up over comparators.
fn add(total: &mut Counts, counts: &Counts) {
    total.released += counts.released;
    total.committed += counts.committed;
    total.exempted += counts.exempted;
    total.secondary_overflow += counts.secondary_overflow;
    total.unreadable_primary += counts.unreadable_primary;
    total.unreadable_secondary += counts.unreadable_secondary;
    total.flow_table_full += counts.flow_table_full;
    for (total, n) in total.divergences.iter_mut().zip(counts.divergences) {
        *total += n;
    }
}

/// How many of the next steps are frames that one round may take in: of each VM a burst at most.
fn frames_of_a_round(steps: &[Step]) -> usize {
    let mut counts = [0; 2];
    let fits = |step: &&Step| {
        let count = match step {
            Step::Primary(_) => &mut counts[0],
            Step::Secondary(_) => &mut counts[1],
            Step::Fence | Step::Commit | Step::Discard | Step::Age => return false,
        };
        *count += 1;
        *count <= BURST
    };
    steps.iter().take_while(fits).count()
}

/// The script in rounds: up to `most` frames that follow one another arrive at one time.
fn rounds<'a>(rng: &mut Rng, script: &'a Script, most: usize) -> Vec<&'a [Step]> {
    let mut rest = &script.steps[..];
    let mut rounds = Vec::new();
    while !rest.is_empty() {
        let frames = frames_of_a_round(rest);
        let (round, behind) = rest.split_at(frames.min(rng.between(1, most)).max(1));
        rounds.push(round);
        rest = behind;
    }
    rounds
}

/// P and S of a round.
fn bursts(round: &[Step], owners: &Arc<()>) -> (Vec<Tagged>, Vec<Tagged>) {
    let (mut primary, mut secondary) = (Vec::new(), Vec::new());
    for step in round {
        match step {
            Step::Primary(frame) => primary.push(frame.counted(owners)),
            Step::Secondary(frame) => secondary.push(frame.counted(owners)),
            Step::Fence | Step::Commit | Step::Discard | Step::Age => {}
        }
    }
    (primary, secondary)
}

/// Rounds after which a script is let come to rest and asked what is overdue.
fn rests(rng: &mut Rng, rounds: &[&[Step]]) -> Vec<bool> {
    let often = [2, 8, 64][rng.below(3)];
    rounds.iter().map(|_| rng.one_in(often)).collect()
}

fn named(divergence: Divergence<Tagged>) -> Overdue {
    let flow = divergence.flow;
    let reason = divergence.reason;
    (reason, flow.filter(|_| reason != Reason::MissingPrimary))
}

/// A comparator alone.
fn alone(script: &Script, rounds: &[&[Step]], rests: &[bool]) -> Outcome {
    let owners = Arc::new(());
    let policy = Policy::default();
    let mut comparator: Comparator<Tagged> = Comparator::new(LIMITS, script.numbers, policy);
    let mut outcome = Outcome::default();
    let mut epoch = 0;
    let mut sent = Vec::new();
    let single = rounds.len() == script.steps.len();
    for (at, round) in rounds.iter().enumerate() {
        let now = at as u64;
        let step = &round[0];
        match step {
            Step::Primary(_) | Step::Secondary(_) if round.len() > 1 => {
                let (p, s) = bursts(round, &owners);
                comparator.ingest(&mut p.into_iter(), &mut s.into_iter(), now);
            }
            Step::Primary(frame) => {
                let taken = comparator.primary(frame.counted(&owners), now);
                assert!(taken.is_ok(), "there is room");
            }
            Step::Secondary(frame) => comparator.secondary(frame.counted(&owners), now),
            Step::Fence => comparator.fence(),
            Step::Commit => comparator.commit(now),
            Step::Discard => outcome.discarded += comparator.discard() as u64,
            Step::Age => comparator.age(now, 32),
        }
        epoch += u64::from(matches!(step, Step::Fence | Step::Commit | Step::Discard));
        let known = sent.len();
        while let Some(synchronized) = comparator.next_synchronized() {
            sent.push((epoch, synchronized.flow));
        }
        while let Some(release) = comparator.next_release() {
            outcome.leaves(&release, at);
            // What left in the same round as ISNs were found may have left before.
            let known = if single { sent.len() } else { known };
            if sent[..known].contains(&(epoch, release.frame.packet().key)) {
                outcome.synchronized.insert(release.frame.number, epoch);
            }
        }
        if let Some(divergence) = comparator.take_divergence() {
            let (reason, flow) = (divergence.reason, divergence.flow);
            outcome.reported.push((epoch, reason, flow));
        }
        let old = |since| now - since >= TIMEOUT;
        let single = rounds.len() == script.steps.len();
        if single && rests[at] && (script.is_plain || comparator.oldest_primary().is_some_and(old))
        {
            let found = comparator.overdue(now);
            outcome.overdue.insert(at, found.map(named));
        }
    }
    outcome.held = comparator.held();
    add(&mut outcome.counts, comparator.counts());
    outcome
}

/// A dispatcher with workers that get their turns at random.
struct Steered<'a> {
    alone: &'a Outcome,
    dispatcher: Dispatcher<Tagged>,
    workers: Vec<Worker<Tagged>>,
    /// Of sixteen turns, how many each worker takes.
    speeds: Vec<usize>,
    synchronized: Vec<(u64, FlowKey)>,
    epoch: u64,
}

impl<'a> Steered<'a> {
    fn new(rng: &mut Rng, script: &Script, cores: usize, alone: &'a Outcome) -> Self {
        let weights: Vec<u32> = (0..cores).map(|_| rng.below(4) as u32 + 1).collect();
        let table = match rng.below(3) {
            0 => RedirectionTable::weighted(&weights, rng.next()),
            _ => RedirectionTable::even(cores, rng.next()),
        };
        let sizes = match rng.below(3) {
            0 => RingSizes::default(),
            _ => RingSizes {
                frames: rng.between(1, 9),
                releases: rng.between(1, 9),
                reports: rng.between(1, 3),
            },
        };
        let (dispatcher_ends, worker_ends): (Vec<_>, Vec<_>) =
            (1..cores).map(|_| rings(sizes)).unzip();
        let workers = worker_ends.into_iter().enumerate().map(|(i, end)| {
            let limits = table.limits(&LIMITS, i + 1);
            Worker::new(end, limits, script.numbers, Policy::default())
        });
        Self {
            alone,
            speeds: vec![16; cores - 1],
            workers: workers.collect(),
            dispatcher: Dispatcher::new(
                LIMITS,
                script.numbers,
                Policy::default(),
                dispatcher_ends,
                table,
            ),
            synchronized: Vec::new(),
            epoch: 0,
        }
    }

    /// Lets the workers work, or not.
    fn turn(&mut self, rng: &mut Rng, at: usize, outcome: &mut Outcome) {
        if rng.one_in(20) {
            let worker = rng.below(self.speeds.len().max(1));
            if let Some(speed) = self.speeds.get_mut(worker) {
                *speed = [0, 1, 4, 16][rng.below(4)];
            }
        }
        for (worker, speed) in self.workers.iter_mut().zip(&self.speeds) {
            if rng.below(16) < *speed {
                worker.poll();
            }
        }
        if rng.one_in(3) {
            self.take(at, outcome);
        }
    }

    /// Takes what may leave and what was found.
    fn take(&mut self, at: usize, outcome: &mut Outcome) {
        self.dispatcher.exchange();
        outcome.discarded += self.dispatcher.take_discarded() as u64;
        while let Some(synchronized) = self.dispatcher.next_synchronized() {
            self.synchronized.push((self.epoch, synchronized.flow));
        }
        while let Some(release) = self.dispatcher.next_release() {
            // After a fence the SVM is about to load the PVM's numbers, and nobody wants its own.
            let behind = self.alone.synchronized.get(&release.frame.number);
            let isns = (self.epoch, release.frame.packet().key);
            assert!(
                behind != Some(&self.epoch) || self.synchronized.contains(&isns),
                "P {} leaves before the ISNs of its flow were sent",
                release.frame.number
            );
            outcome.leaves(&release, at);
        }
        if let Some(divergence) = self.dispatcher.take_divergence() {
            let (reason, flow) = (divergence.reason, divergence.flow);
            outcome.reported.push((self.epoch, reason, flow));
        }
    }

    /// Lets everybody do everything.
    fn settle(&mut self, at: usize, outcome: &mut Outcome) {
        for _ in 0..10_000 {
            self.workers.iter_mut().for_each(|worker| {
                worker.poll();
            });
            self.take(at, outcome);
            if self.dispatcher.is_settled() {
                return;
            }
        }
        panic!("the workers do not come to rest");
    }

    fn overdue(&mut self, at: usize, outcome: &mut Outcome) -> Option<Overdue> {
        // Each call asks one core, which may drop what nobody misses, or let it wait anew.
        for _ in 0..16 {
            if let Some(d) = self.dispatcher.overdue(at as u64) {
                return Some(named(d));
            }
            self.settle(at, outcome);
        }
        None
    }
}

/// The same script through a dispatcher with `cores - 1` workers.
fn spread(
    rng: &mut Rng,
    script: &Script,
    rounds: &[&[Step]],
    rests: &[bool],
    cores: usize,
    alone: &Outcome,
) -> Outcome {
    let owners = Arc::new(());
    let mut steered = Steered::new(rng, script, cores, alone);
    let mut outcome = Outcome::default();
    for (at, round) in rounds.iter().enumerate() {
        let now = at as u64;
        while !steered.dispatcher.is_ready() || steered.dispatcher.room() < round.len() {
            // The rings push back; even the slowest worker gets on at some time.
            steered.turn(rng, at, &mut outcome);
            steered.speeds.iter_mut().for_each(|s| *s = (*s).max(1));
            steered.take(at, &mut outcome);
        }
        let step = &round[0];
        match step {
            Step::Primary(_) | Step::Secondary(_) if round.len() > 1 => {
                let (p, s) = bursts(round, &owners);
                let mut p = p.into_iter();
                let dispatcher = &mut steered.dispatcher;
                dispatcher.ingest(&mut p, &mut s.into_iter(), now);
                assert_eq!(p.len(), 0, "there is room");
            }
            Step::Primary(frame) => {
                let taken = steered.dispatcher.primary(frame.counted(&owners), now);
                assert!(taken.is_ok(), "there is room");
            }
            Step::Secondary(frame) => steered.dispatcher.secondary(frame.counted(&owners), now),
            Step::Fence => {
                steered.dispatcher.fence();
                while steered.dispatcher.next_synchronized().is_some() {}
            }
            Step::Commit => steered.dispatcher.commit(now),
            Step::Discard => outcome.discarded += steered.dispatcher.discard() as u64,
            Step::Age => {
                // A worker for which messages wait is not asked, and lets no part leave.
                steered.settle(at, &mut outcome);
                steered.dispatcher.age(now, 32);
            }
        }
        steered.epoch += u64::from(matches!(step, Step::Fence | Step::Commit | Step::Discard));
        steered.turn(rng, at, &mut outcome);
        if rests[at] {
            steered.settle(at, &mut outcome);
            if alone.overdue.contains_key(&at) {
                let found = steered.overdue(at, &mut outcome);
                outcome.overdue.insert(at, found);
            }
            assert_present(&outcome, alone, at);
            assert_eq!(
                Arc::strong_count(&owners) - 1,
                steered.dispatcher.frames(),
                "frames"
            );
        }
    }
    let last = rounds.len();
    steered.settle(last, &mut outcome);
    assert!(!steered.dispatcher.take_overflow(), "an S found no room");
    outcome.held = steered.dispatcher.held();
    add(&mut outcome.counts, steered.dispatcher.local().counts());
    for worker in &steered.workers {
        add(&mut outcome.counts, worker.comparator().counts());
        assert!(!worker.is_over());
    }
    let inside = steered.dispatcher.frames();
    assert_eq!(Arc::strong_count(&owners) - 1, inside, "frames");
    drop(steered.dispatcher);
    assert!(steered.workers.iter().all(Worker::is_over));
    steered.workers.clear();
    assert_eq!(Arc::strong_count(&owners), 1, "frames that nobody owns");
    outcome
}

/// All that had left the comparator alone at this step has left, too.
fn assert_present(outcome: &Outcome, alone: &Outcome, at: usize) {
    let due = alone.left.iter().filter(|(_, (step, _))| *step <= at);
    for (number, (step, _)) in due {
        assert!(
            outcome.left.contains_key(number),
            "P {number:?} left at step {step}, and has not at {at}"
        );
    }
}

/// A P without what depends on the order of frames that arrived at one time: the S that was there
/// last, and what [`as_sent`] takes away.
fn in_any_order(left: &Left) -> Left {
    let mut left = left.clone();
    left.witnessed = None;
    as_sent(&mut left.bytes);
    left
}

fn assert_equal(outcome: &Outcome, alone: &Outcome, single: bool) {
    for (number, (step, one)) in &outcome.left {
        let Some((then, other)) = alone.left.get(number) else {
            panic!("P {number:?} has left at step {step}, and never should");
        };
        assert!(
            step >= then,
            "P {number:?} left at step {step}, before {then}"
        );
        // A retransmission that leaves later, because a worker has less history, raises no time stamp before.
        let [mut left, mut as_left] = [one, other].map(in_any_order);
        if single {
            [left.witnessed, as_left.witnessed] = [one, other].map(|left| left.witnessed);
        }
        assert_eq!(left, as_left, "P {number:?}");
    }
    if single {
        assert_eq!(outcome.order, alone.order, "order within the flows");
    }
    for report in &outcome.reported {
        assert!(alone.reported.contains(report), "reported: {report:?}");
    }
    for (at, found) in &outcome.overdue {
        // When the wait of an S begins anew depends on when somebody asks.
        let primary =
            |found: &Option<Overdue>| found.filter(|(reason, _)| *reason != Reason::MissingPrimary);
        assert_eq!(
            primary(found),
            primary(&alone.overdue[at]),
            "overdue at step {at}"
        );
    }
    assert_eq!(outcome.discarded, alone.discarded, "discarded");
    assert_eq!(outcome.held, alone.held, "held");
    let [mut counts, mut as_counts] = [outcome.counts, alone.counts];
    for counts in [&mut counts, &mut as_counts] {
        counts.held_max = 0;
        counts.divergences[Reason::MissingPrimary as usize] = 0;
    }
    assert_eq!(counts, as_counts);
}

#[test]
fn any_number_of_workers_releases_what_a_comparator_alone_does() {
    for_cases("workers", 600, |rng| {
        let script = Script::random(rng);
        let rounds = rounds(rng, &script, 1);
        let rests = rests(rng, &rounds);
        let alone = alone(&script, &rounds, &rests);
        compare_with_workers(rng, &script, &rounds, &rests, &alone);
    });
}

/// The same with bursts of both VMs in a round, as the poll loop takes them in. Which of the frames that
/// arrive at one time are looked at first is open, and with the flows of other cores among them it is
/// another one; so only output that is the same is looked at, of which all has to leave anyway.
#[test]
fn any_number_of_workers_releases_bursts_as_a_comparator_alone_does() {
    let compared = Cell::new(0);
    for_cases("bursts", 1200, |rng| {
        let script = Script::random(rng);
        let most = [4, 20, 60][rng.below(3)];
        let rounds = rounds(rng, &script, most);
        let rests = rests(rng, &rounds);
        let alone = alone(&script, &rounds, &rests);
        if script.is_plain && alone.reported.is_empty() {
            compare_with_workers(rng, &script, &rounds, &rests, &alone);
            compared.set(compared.get() + alone.counts.released);
        }
    });
    println!("{} P", compared.get());
}

/// The same where the network loses frames, so that P overtake others on their flow.
#[test]
fn any_number_of_workers_lets_the_same_overtake() {
    for_cases("workers_under_loss", 200, |rng| {
        let script = crate::loss::script(rng);
        let rounds = rounds(rng, &script, 1);
        let rests = rests(rng, &rounds);
        let alone = alone(&script, &rounds, &rests);
        compare_with_workers(rng, &script, &rounds, &rests, &alone);
    });
}

fn compare_with_workers(
    rng: &mut Rng,
    script: &Script,
    rounds: &[&[Step]],
    rests: &[bool],
    alone: &Outcome,
) {
    for cores in [1, 2, 4] {
        let outcome = spread(rng, script, rounds, rests, cores, alone);
        assert_equal(&outcome, alone, rounds.len() == script.steps.len());
    }
}

/// The same with workers on threads of their own, which take their turns as the machine lets them.
#[test]
fn workers_on_threads_release_what_a_comparator_alone_does() {
    for_cases("threads", 100, |rng| {
        let script = Script::random(rng);
        let rounds = rounds(rng, &script, 1);
        let never = vec![false; rounds.len()];
        let alone = alone(&script, &rounds, &never);
        let owners = Arc::new(());
        let Steered {
            mut dispatcher,
            workers,
            ..
        } = Steered::new(rng, &script, 3, &alone);
        let last = script.steps.len();
        let (released, total) = std::thread::scope(|scope| {
            let running: Vec<_> = workers
                .into_iter()
                .map(|mut worker| {
                    scope.spawn(move || {
                        while !worker.is_over() {
                            if !worker.poll() {
                                std::thread::yield_now();
                            }
                        }
                        *worker.comparator().counts()
                    })
                })
                .collect();
            let mut released = Outcome::default();
            for (at, step) in script.steps.iter().enumerate() {
                let now = at as u64;
                while !dispatcher.is_ready() || dispatcher.room() == 0 {
                    take(&mut dispatcher, &mut released, at);
                    std::thread::yield_now();
                }
                match step {
                    Step::Primary(frame) => {
                        assert!(dispatcher.primary(frame.counted(&owners), now).is_ok());
                    }
                    Step::Secondary(frame) => dispatcher.secondary(frame.counted(&owners), now),
                    Step::Fence => dispatcher.fence(),
                    Step::Commit => dispatcher.commit(now),
                    Step::Discard => released.discarded += dispatcher.discard() as u64,
                    Step::Age => {
                        while !dispatcher.is_settled() {
                            take(&mut dispatcher, &mut released, at);
                            std::thread::yield_now();
                        }
                        dispatcher.age(now, 32);
                    }
                }
                take(&mut dispatcher, &mut released, at);
            }
            while !dispatcher.is_settled() {
                take(&mut dispatcher, &mut released, last);
                std::thread::yield_now();
            }
            released.held = dispatcher.held();
            add(&mut released.counts, dispatcher.local().counts());
            drop(dispatcher);
            let mut total = released.counts;
            for worker in running {
                add(&mut total, &worker.join().expect("a worker"));
            }
            (released, total)
        });
        let outcome = Outcome {
            counts: total,
            ..released
        };
        assert_equal(&outcome, &alone, true);
        assert_eq!(Arc::strong_count(&owners), 1, "frames that nobody owns");
    });
}

/// Takes what has come from the workers.
fn take(dispatcher: &mut Dispatcher<Tagged>, outcome: &mut Outcome, at: usize) {
    dispatcher.exchange();
    outcome.discarded += dispatcher.take_discarded() as u64;
    while dispatcher.next_synchronized().is_some() {}
    while let Some(release) = dispatcher.next_release() {
        outcome.leaves(&release, at);
    }
}
