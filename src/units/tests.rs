use super::*;
use proptest::prelude::*;

fn check<T>(text: &str, expected: T)
where
    T: FromStr<Err = UnitError> + fmt::Display + PartialEq + fmt::Debug,
{
    assert_eq!(text.parse::<T>().as_ref(), Ok(&expected), "{text}");
}

#[test]
fn texts_are_read_exactly() {
    check("12.5 mA", Milliamps::from_microamps(12_500));
    check("0.001mA", Milliamps::from_microamps(1));
    check("250 us", Microseconds::from_micros(250));
    check("6.5 ms", Microseconds::from_micros(6_500));
    check("80 Hz", Hertz::from_hertz(80));
    check("29.167 Hz", Hertz::from_millihertz(29_167));
    check("20 uC", Microcoulombs::from_picocoulombs(20_000_000));
    check("1200 raw", RawSpeed::from_raw(1200));
    check("70000 raw", RawForce::from_raw(70_000));
    check("120 raw", RawForce::from_raw(120));
    check("2 level", Level::from_level(2));
    check("25 cm2", SquareCentimetres::from_square_millimetres(2_500));
    check("12.5 cm", Centimetres::from_millimetres(125));
    check("49 mm", Centimetres::from_millimetres(49));
    assert_eq!(parse_duration("2 min"), Ok(Duration::from_secs(120)));
    assert_eq!(parse_duration("1.5 s"), Ok(Duration::from_millis(1_500)));
    assert_eq!(parse_duration("250 ms"), Ok(Duration::from_millis(250)));
}

#[test]
fn instants_and_steps_are_what_they_were_made_of_and_print_so() {
    assert_eq!((Level::from_level(3).level(), Level::from_level(3).to_string()), (3, "3 level".to_owned()));
    assert_eq!((RawForce::from_raw(70).raw(), Centimetres::from_millimetres(45).millimetres()), (70, 45));
    let instant = Mono::from_millis(2_500);
    assert_eq!((instant.micros(), instant.to_string()), (2_500_000, "2.5 s".to_owned()));
    assert_eq!(instant.since(Mono::from_micros(500_000)), Duration::from_secs(2));
}

#[test]
fn a_wrong_unit_is_refused_and_named() {
    assert!(matches!("12 Hz".parse::<Milliamps>(), Err(UnitError::WrongUnit { .. })));
    assert!(matches!("mA".parse::<Milliamps>(), Err(UnitError::NotANumber { .. })));
    assert!(matches!("".parse::<Milliamps>(), Err(UnitError::NotANumber { .. })));
    assert!(matches!("12".parse::<Milliamps>(), Err(UnitError::WrongUnit { .. })));
    assert!(matches!("12 uA".parse::<Milliamps>(), Err(UnitError::WrongUnit { .. })));
    assert!(matches!("-5 mA".parse::<Milliamps>(), Err(UnitError::NotANumber { .. })));
    assert!(matches!("1.2.3 mA".parse::<Milliamps>(), Err(UnitError::NotANumber { .. })));
    assert!(matches!("5. mA".parse::<Milliamps>(), Err(UnitError::NotANumber { .. })));
    assert!(matches!("0.0001 mA".parse::<Milliamps>(), Err(UnitError::TooFine { .. })));
    assert!(matches!("99999999 mA".parse::<Milliamps>(), Err(UnitError::TooLarge { .. })));
    assert!(matches!("70000 raw".parse::<RawSpeed>(), Err(UnitError::TooLarge { .. })));
}

#[test]
fn a_period_never_exceeds_the_rate_it_stands_for() {
    assert_eq!(Hertz::from_hertz(150).period(), Some(Microseconds::from_micros(6_667)));
    assert_eq!(Hertz::from_hertz(50).period(), Some(Microseconds::from_micros(20_000)));
    assert_eq!(Hertz::from_hertz(0).period(), None);
}

#[test]
fn charge_is_current_times_width() {
    let charge = Milliamps::from_milliamps(80) * Microseconds::from_micros(400);
    assert_eq!(charge.to_string(), "32 uC");
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(raw in any::<u32>(), small in any::<u16>(), charge in any::<u64>()) {
        check(&Milliamps::from_microamps(raw).to_string(), Milliamps::from_microamps(raw));
        check(&Microseconds::from_micros(raw).to_string(), Microseconds::from_micros(raw));
        check(&Centimetres::from_millimetres(raw).to_string(), Centimetres::from_millimetres(raw));
        check(&Hertz::from_millihertz(raw).to_string(), Hertz::from_millihertz(raw));
        check(&RawSpeed::from_raw(small).to_string(), RawSpeed::from_raw(small));
        check(&RawForce::from_raw(raw).to_string(), RawForce::from_raw(raw));
        check(&Microcoulombs::from_picocoulombs(charge).to_string(), Microcoulombs::from_picocoulombs(charge));
        check(
            &SquareCentimetres::from_square_millimetres(raw).to_string(),
            SquareCentimetres::from_square_millimetres(raw),
        );
        let span = Duration::from_micros(u64::from(raw));
        prop_assert_eq!(parse_duration(&show_duration(span).to_string()), Ok(span));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,20}") {
        drop(text.parse::<Milliamps>());
        drop(parse_duration(&text));
    }
}
