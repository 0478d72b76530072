use super::*;
use crate::config::device_file;

fn profile() -> Profile {
    device_file::built_in(&mut Vec::new()).profiles.remove(0)
}

fn at(gun: &mut Gun, millis: u64, input: SimInput<'_>) -> Vec<SimOutput> {
    let mut out = Vec::new();
    gun.advance(Mono::from_millis(millis), input, &mut out);
    out
}

fn tell(gun: &mut Gun, millis: u64, command: &str, speed: Option<u16>) -> Vec<SimOutput> {
    let profile = gun.profile.clone();
    let (bytes, _) = match speed {
        Some(speed) => profile.motor_frame(speed).unwrap(),
        None => profile.plain_frame(command).unwrap(),
    };
    let endpoint = Endpoint::Characteristic(profile.gatt.command.uuid);
    at(gun, millis, SimInput::Received { endpoint, bytes: &bytes })
}

fn gun(change: impl FnOnce(&mut GunBehaviour)) -> Gun {
    let profile = profile();
    let mut behaviour = GunBehaviour::of(&profile);
    change(&mut behaviour);
    let mut gun = Gun::new(&profile, 3, behaviour);
    at(&mut gun, 0, SimInput::Connected);
    gun
}

#[test]
fn the_truth_does_not_depend_on_how_often_one_looks() {
    let run = |step: u64| {
        let mut gun = gun(|_| {});
        tell(&mut gun, 10, "set_speed", Some(2400));
        for now in (10..3000).step_by(usize::try_from(step).unwrap()) {
            at(&mut gun, now, SimInput::Tick);
        }
        tell(&mut gun, 3000, "stop_zero", None);
        at(&mut gun, 5000, SimInput::Tick);
        gun.truth()[0]
    };
    let (often, seldom) = (run(1), run(1000));
    assert_eq!(often, seldom);
    // About 3 s at 2400, less the rise, and the fall.
    assert!((2990 * 1000..=3200 * 1000).contains(&often.on_us), "{often:?}");
    assert!(often.speed_us < 2400 * 3_000_000 && often.speed_us > 2400 * 2_600_000);
    assert_eq!((often.present, often.highest), (0, 2400));
}

#[test]
fn every_seed_is_at_zero_160_ms_after_an_accepted_stop() {
    for seed in 0..200 {
        let profile = profile();
        let mut gun = Gun::new(&profile, seed, GunBehaviour::of(&profile));
        at(&mut gun, 0, SimInput::Connected);
        tell(&mut gun, 0, "set_speed", Some(3616));
        at(&mut gun, 2000, SimInput::Tick);
        assert_eq!(gun.speed(), 3616);
        tell(&mut gun, 2000, "stop_off4", None);
        at(&mut gun, 2050, SimInput::Tick);
        assert!(gun.speed() > 0, "inertia");
        at(&mut gun, 2160, SimInput::Tick);
        assert_eq!(gun.speed(), 0);
    }
}

/// Whoever writes the truth wakes it when the output begins and when it ends, not only when a message comes.
#[test]
fn it_wants_to_be_woken_when_its_output_begins_and_ends() {
    let mut gun = gun(|_| {});
    tell(&mut gun, 10, "set_speed", Some(2000));
    assert_eq!(gun.deadline(), Some(Mono::from_micros(10_001)));
    at(&mut gun, 1500, SimInput::Tick);
    tell(&mut gun, 1500, "stop_zero", None);
    let zero = gun.deadline().unwrap();
    gun.advance(Mono::from_micros(zero.micros() - 1), SimInput::Tick, &mut Vec::new());
    assert!(gun.speed() > 0);
    gun.advance(zero, SimInput::Tick, &mut Vec::new());
    assert_eq!((gun.speed(), gun.deadline()), (0, None));
}

#[test]
fn it_obeys_only_the_stop_frames_it_knows() {
    let mut gun = gun(|gun| gun.stop_accepts = vec!["stop_off7".to_owned()]);
    tell(&mut gun, 0, "set_speed", Some(2000));
    tell(&mut gun, 1000, "stop_zero", None);
    tell(&mut gun, 1000, "set_speed", Some(0));
    at(&mut gun, 2000, SimInput::Tick);
    assert_eq!(gun.speed(), 2000);
    tell(&mut gun, 2000, "stop_off7", None);
    at(&mut gun, 2500, SimInput::Tick);
    assert_eq!(gun.speed(), 0);
}

#[test]
fn a_lost_link_does_what_the_behaviour_says() {
    for (what, speed, visible) in
        [(LinkLoss::Continues, 2000, true), (LinkLoss::Stops, 0, true), (LinkLoss::PowersOff, 0, false)]
    {
        let mut gun = gun(|gun| gun.on_link_loss = what);
        tell(&mut gun, 0, "set_speed", Some(2000));
        at(&mut gun, 1000, SimInput::Tick);
        at(&mut gun, 1000, SimInput::Disconnected);
        assert_eq!(gun.deadline().is_some_and(|at| at == Mono::from_millis(1500)), speed == 0);
        at(&mut gun, 3000, SimInput::Tick);
        assert_eq!((gun.speed(), gun.advertisement().is_some()), (speed, visible), "{what:?}");
    }
}

#[test]
fn a_wedged_gun_keeps_its_speed_until_its_button_and_a_reboot_is_at_zero_at_once() {
    let mut gun = gun(|_| {});
    tell(&mut gun, 0, "set_speed", Some(1800));
    at(&mut gun, 1000, SimInput::Event(SimEvent::Wedged(true)));
    assert!(tell(&mut gun, 1100, "get_status", None).is_empty());
    tell(&mut gun, 1100, "stop_zero", None);
    at(&mut gun, 2000, SimInput::Tick);
    assert_eq!(gun.speed(), 1800);
    at(&mut gun, 2000, SimInput::Event(SimEvent::ButtonStop));
    at(&mut gun, 2500, SimInput::Tick);
    assert_eq!(gun.speed(), 0);
    at(&mut gun, 3000, SimInput::Event(SimEvent::ButtonStart));
    at(&mut gun, 4000, SimInput::Event(SimEvent::Reboot));
    assert_eq!(gun.speed(), 0);
    assert!(!tell(&mut gun, 4100, "get_status", None).is_empty());
}

#[test]
fn charge_drains_while_it_runs_and_a_flat_gun_stands_still() {
    let mut gun = gun(|gun| gun.battery_percent = 1);
    assert_eq!(gun.read(gatt::BATTERY_LEVEL), Some(vec![1]));
    tell(&mut gun, 0, "set_speed", Some(2000));
    at(&mut gun, 1000, SimInput::Tick);
    let flat = gun.deadline().unwrap();
    assert_eq!(flat, Mono::from_millis(90_000), "1 % of 150 min");
    at(&mut gun, 91_000, SimInput::Tick);
    assert_eq!((gun.speed(), gun.battery_percent()), (0, 0));
    tell(&mut gun, 92_000, "set_speed", Some(2000));
    at(&mut gun, 93_000, SimInput::Event(SimEvent::ButtonStart));
    at(&mut gun, 94_000, SimInput::Tick);
    assert_eq!(gun.speed(), 0);
}

#[test]
fn a_load_takes_speed_and_auto_off_takes_the_rest() {
    let mut gun = gun(|gun| {
        gun.load_droop_percent = 15;
        gun.auto_off = Some(Duration::from_secs(10));
    });
    tell(&mut gun, 0, "set_speed", Some(2000));
    at(&mut gun, 9_000, SimInput::Tick);
    assert_eq!(gun.speed(), 1700);
    at(&mut gun, 11_000, SimInput::Tick);
    assert_eq!(gun.speed(), 0);
}

#[test]
fn every_filler_and_length_reads_back() {
    for unknown_bytes in [Filler::Zero, Filler::Ones, Filler::Random] {
        for frame_len in 0..24 {
            let mut gun = gun(|gun| {
                gun.unknown_bytes = unknown_bytes;
                gun.frame_len = frame_len;
            });
            tell(&mut gun, 0, "set_speed", Some(1234));
            at(&mut gun, 2000, SimInput::Tick);
            let out = tell(&mut gun, 2000, "get_status", None);
            let [SimOutput::Send { bytes, delay, .. }] = out.as_slice() else { panic!("one reply") };
            let reply = gun.profile.read_reply(bytes).unwrap();
            assert_eq!((reply.fields["running"], reply.fields["speed"]), (1, 1234));
            assert_eq!((reply.length_agrees, *delay), (Some(true), Duration::from_millis(40)));
            assert!((15..=20).contains(&bytes.len()));
        }
    }
}

#[test]
fn a_level_gun_notifies_one_byte_and_shows_its_gate() {
    let profile = device_file::built_in(&mut Vec::new()).profiles.remove(2);
    let behaviour = GunBehaviour { variant: Some("Hypervolt Plus".to_owned()), ..GunBehaviour::of(&profile) };
    let mut gun = Gun::new(&profile, 1, behaviour);
    let advertisement = gun.advertisement().unwrap();
    assert_eq!(advertisement.manufacturer[&0x08BA][0], 2);
    at(&mut gun, 0, SimInput::Connected);
    let out = tell(&mut gun, 0, "set_level", Some(2));
    assert!(matches!(out.as_slice(), [SimOutput::Send { bytes, .. }] if *bytes == [2]));
    assert_eq!(gun.read(profile.gate.unwrap().uuid), Some(vec![0; 4]));
    let flags: Vec<Vec<Flag>> = gun.gatt().into_iter().map(|c| c.flags).collect();
    assert!(flags.contains(&vec![Flag::WriteWithoutResponse, Flag::Notify]));
}
