//! The evidence for a commit: the other node's report of a load, which that node's monitor must confirm.

use super::*;

/// A protected node whose secondary can report loads, with a frame held that only a commit may let out.
fn waiting() -> (Story, usize) {
    let mut story = Story::new(Role::Primary);
    story.protect();
    story.event(Event::Witness { able: true });
    let p = story.p(&Tcp(3).udp(53, b"the PVM's own"));
    story.fence();
    (story, p)
}

fn leaves(mut story: Story, p: usize) -> Report {
    story.commit();
    let bytes = story.bytes(p).to_vec();
    story.out(&bytes);
    audit(&[&story.end()])
}

#[test]
fn a_report_and_a_resume_in_either_order_are_a_commit() {
    for report_first in [true, false] {
        let (mut story, p) = waiting();
        let report = Event::Loaded { covers: Some(1) };
        story.event(Event::Stop);
        if report_first {
            story.event(report.clone());
        }
        story.event(Event::Resume);
        if !report_first {
            story.event(report);
        }
        assert_eq!(leaves(story, p).status(), 0);
    }
}

#[test]
fn a_pass_is_no_proof_where_the_other_node_can_report() {
    let (mut story, p) = waiting();
    for event in [Event::Stop, Event::Pass, Event::Resume] {
        story.event(event);
    }
    assert_eq!(broken(&leaves(story, p)).0, Rule::R3);
    let (mut story, p) = waiting();
    story.event(Event::Witness { able: false });
    for event in [Event::Stop, Event::Pass, Event::Resume] {
        story.event(event);
    }
    assert_eq!(leaves(story, p).status(), 0);
}

#[test]
fn a_report_of_an_older_state_or_without_a_resume_is_no_proof() {
    for (covers, resumes) in [(Some(0), true), (None, true), (Some(1), false)] {
        let (mut story, p) = waiting();
        story.event(Event::Stop);
        story.event(Event::Loaded { covers });
        if resumes {
            story.event(Event::Resume);
        }
        assert_eq!(broken(&leaves(story, p)).0, Rule::R3);
    }
}

#[test]
fn a_report_counts_once() {
    let (mut story, p) = waiting();
    story.event(Event::Stop);
    story.event(Event::Loaded { covers: Some(1) });
    story.event(Event::Resume);
    story.commit();
    let bytes = story.bytes(p).to_vec();
    story.out(&bytes);
    story.fence();
    story.event(Event::Stop);
    story.event(Event::Resume);
    let again = story.commit();
    let report = audit(&[&story.end()]);
    assert_eq!(broken(&report), (Rule::R3, again));
}

#[test]
fn a_report_that_the_other_node_s_monitor_does_not_confirm_breaks_r3() {
    for confirmed in [true, false] {
        let (mut story, p) = waiting();
        let mut other = Story::new(Role::Secondary);
        other.event(Event::Stop);
        other.event(Event::RunState { colo: confirmed });
        other.event(Event::Resume);
        // The other log goes on behind the report.
        story.event(Event::Stop);
        let report = story.event(Event::Loaded { covers: Some(1) });
        story.event(Event::Resume);
        story.commit();
        let bytes = story.bytes(p).to_vec();
        story.out(&bytes);
        for _ in 0..20 {
            other.state("protected");
        }
        let report_of = audit(&[&story.end(), &other.end()]);
        match confirmed {
            true => assert_eq!(report_of.status(), 0, "{report_of}"),
            false => assert_eq!(broken(&report_of), (Rule::R3, report)),
        }
    }
}
