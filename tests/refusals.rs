//! What a therapist reads when the answer is no: what is known, what follows, what to do (SR-08, SR-31).

use std::collections::BTreeSet;
use std::time::Duration;

use doseward::governor::{Interlock, Refusal};
use doseward::model::command::{DeviceId, Generation};
use doseward::model::limit::LimitOwner;
use doseward::units::Centimetres;

use crate::support::plans::{milliamps, raw};

fn limit(owner: LimitOwner, said: &str) -> Refusal {
    let (asked, allowed, unchanged) = (milliamps(40), milliamps(25), milliamps(20));
    Refusal::Limit { asked, allowed, owner, kind: "current", said: said.to_owned(), unchanged }
}

#[test]
fn sr_08_every_refusal_says_what_is_known_and_what_to_do() {
    let entered = Some(Centimetres::from_millimetres(40));
    for (refusal, expected) in [
        (
            limit(LimitOwner::Plan, "step 2, set by Dr K."),
            "Asked 40 mA, allowed 25 mA. Limit of the plan (current): step 2, set by Dr K.. Nothing has changed: 20 mA.",
        ),
        (
            limit(LimitOwner::Ceiling, ""),
            "Asked 40 mA, allowed 25 mA. This is doseward's own ceiling (current); nobody can raise it. Nothing has changed: 20 mA.",
        ),
        (limit(LimitOwner::Device, ""), "allowed 25 mA. Limit of the unit (current). Nothing"),
        (limit(LimitOwner::Site, ""), "allowed 25 mA. Limit of this clinic (current). Nothing"),
        (limit(LimitOwner::Protocol, ""), "allowed 25 mA. Limit of the protocol (current). Nothing"),
        (limit(LimitOwner::Clearance, ""), "allowed 25 mA. Limit of the clearance (current). Nothing"),
        (limit(LimitOwner::Area, ""), "allowed 25 mA. Limit of this area (current). Nothing"),
        (limit(LimitOwner::Operator, ""), "allowed 25 mA. Your own limit for this step (current). Nothing"),
        (
            limit(LimitOwner::Comfort, ""),
            "allowed 25 mA. Limit after the client's discomfort (current). Nothing",
        ),
        (Refusal::Interlock(Interlock::Battery), "Not now: its battery is below 15 %; charge it."),
        (
            Refusal::Stopped { generation: Generation(3) },
            "Everything is stopped (stop 3). Reset it first; nothing starts by that.",
        ),
        (
            Refusal::NotProven { device: DeviceId(1) },
            "Unit 2 has not proven that it stopped. Stop it by hand",
        ),
        (Refusal::State { why: "Arm the step first." }, "Arm the step first."),
        (
            Refusal::Locked { left: Duration::from_millis(29_900) },
            "No rise for another 30 s after discomfort.",
        ),
        (
            Refusal::Rest { left: Duration::from_millis(12_001) },
            "The area rests for another 13 s before percussion",
        ),
        (
            Refusal::BelowFloor { asked: raw(999), floor: raw(1_000) },
            "Asked 999 raw, but the gun runs from 1000 raw up. Ask for 1000 raw or for zero.",
        ),
        (Refusal::Stale, "The screen was behind. It shows the present state now; ask again."),
        (Refusal::TooSlow, "The record took longer than half a second, so nothing was raised. Ask again."),
        (
            Refusal::Pattern { what: "ON for 21 s, allowed 20 s (ceiling)".to_owned() },
            "This step lies over a limit: ON for 21 s, allowed 20 s (ceiling). Change the plan.",
        ),
        (Refusal::Distance { entered: None }, "needs the measured distance: at least 5 cm"),
        (
            Refusal::Distance { entered },
            "Percussion at 4 cm from an area that is being stimulated is too near",
        ),
        (
            Refusal::Unit { why: "it is another unit".to_owned() },
            "The unit cannot be driven: it is another unit.",
        ),
        (Refusal::NoSuchStep { step: 9 }, "The plan has no step 9."),
    ] {
        let text = refusal.to_string();
        assert!(text.contains(expected), "{text}");
        assert!(text.ends_with('.'), "{text}");
    }
}

#[test]
fn every_interlock_has_a_code_of_its_own_and_says_what_to_do() {
    let all = [
        Interlock::OperatorPresent,
        Interlock::LinkFresh,
        Interlock::RecordDurable,
        Interlock::ContactOk,
        Interlock::ClockSane,
        Interlock::GuardPresent,
        Interlock::GuardHolds,
        Interlock::ReadBack,
        Interlock::HeldByPerson,
        Interlock::StopsByItself,
        Interlock::Battery,
    ];
    let codes: BTreeSet<&str> = all.iter().map(|interlock| interlock.code()).collect();
    let words: BTreeSet<&str> = all.iter().map(|interlock| interlock.words()).collect();
    assert_eq!((codes.len(), words.len()), (all.len(), all.len()));
    for interlock in all {
        let snake = format!("{interlock:?}").chars().fold(String::new(), |mut snake, c| {
            if c.is_uppercase() && !snake.is_empty() {
                snake.push('_');
            }
            snake.push(c.to_ascii_lowercase());
            snake
        });
        assert_eq!(interlock.code(), snake);
        assert!(interlock.words().split(' ').count() >= 5, "{}", interlock.words());
    }
}
