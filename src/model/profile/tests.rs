use super::frame::*;
use super::*;

fn no_checksum(_: &str) -> Option<Checksum> {
    None
}

#[test]
fn a_template_names_what_is_wrong_with_it() {
    let sum = Checksum { algorithm: Algorithm::Sum8, from: 2, to: LastIndex::At(9) };
    let defined = |name: &str| (name == "ck").then_some(sum);
    for (text, error) in [
        ("", FrameError::Empty),
        ("AA {ck}", FrameError::UnknownChecksum("ck".to_owned())),
        ("AAA", FrameError::Token("AAA".to_owned())),
        ("{Speed:u8}", FrameError::Token("{Speed:u8}".to_owned())),
        ("{speed:u32}", FrameError::Kind("u32".to_owned())),
        ("{a:u8} {a:u8}", FrameError::Twice("a".to_owned())),
        (&"00 ".repeat(21), FrameError::TooLong(21)),
    ] {
        assert_eq!(Template::parse(text, no_checksum), Err(error), "{text}");
    }
    assert_eq!(Template::parse("AA {ck} {ck}", defined), Err(FrameError::TwoChecksums));
    assert_eq!(Template::parse("AA {ck} 00", defined), Err(FrameError::Range { from: 2, to: 9, len: 3 }));
}

#[test]
fn a_frame_reads_back_as_its_values_and_no_damaged_one_does() {
    for algorithm in [
        Algorithm::Sum8,
        Algorithm::Neg8,
        Algorithm::Inv8,
        Algorithm::Xor8,
        Algorithm::Crc8,
        Algorithm::Crc16ModbusLe,
        Algorithm::Crc16CcittBe,
    ] {
        let checksum = Checksum { algorithm, from: 0, to: LastIndex::End };
        let template =
            Template::parse("A5 {speed:u16be} {ck} {step:ascii_digit}", |_| Some(checksum)).unwrap();
        let values = Values::from([("speed".to_owned(), 2345), ("step".to_owned(), 7)]);
        let bytes = template.render(&values).unwrap();
        assert_eq!(template.read(&bytes), Some(values));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x01;
            assert_eq!(template.read(&damaged), None, "{algorithm:?} byte {at}");
        }
    }
}

#[test]
fn values_that_do_not_fit_are_refused() {
    let template = Template::parse("{a:u8} {d:ascii_digit}", no_checksum).unwrap();
    let render = |a: u32, d: u32| template.render(&Values::from([("a".to_owned(), a), ("d".to_owned(), d)]));
    assert!(render(255, 9).is_ok());
    assert_eq!(render(256, 9), Err(FrameError::Value { name: "a".to_owned(), value: 256 }));
    assert_eq!(render(1, 10), Err(FrameError::Value { name: "d".to_owned(), value: 10 }));
    assert_eq!(
        template.render(&Values::from([("a".to_owned(), 1)])),
        Err(FrameError::Missing("d".to_owned()))
    );
}

#[test]
fn no_calibration_reaches_outside_its_points() {
    let calibration = Calibration::new(vec![(1000, 700), (2000, 1340), (3000, 1990)]).unwrap();
    assert_eq!(calibration.milli_strokes_per_minute(1001), Some(700_640));
    assert_eq!(calibration.milli_strokes_per_minute(999), None);
    assert_eq!(calibration.milli_strokes_per_minute(3001), None);
    assert_eq!(Calibration::new(vec![(1000, 700), (2000, 1340)]), Err(CalibrationError::TooFew));
    assert_eq!(Calibration::new(vec![(1, 1), (1, 2), (3, 3)]), Err(CalibrationError::Order));
}

#[test]
fn uuids_have_one_form() {
    let short = gatt::parse_uuid("FFE1").unwrap();
    assert_eq!(gatt::show_uuid(short), "0000ffe1-0000-1000-8000-00805f9b34fb");
    assert_eq!(gatt::parse_uuid("0000ffe1-0000-1000-8000-00805f9b34fb"), Some(short));
    assert_eq!(gatt::parse_uuid("0000ffe1"), Some(short));
    for bad in ["", "ffe", "ffe1-", "0000ffe1-0000-1000-8000-00805f9b34f", "gggg", "00-00ffe1"] {
        assert_eq!(gatt::parse_uuid(bad), None, "{bad}");
    }
}

#[test]
fn dotted_versions_count_back() {
    for (number, text) in [(216, "2.1.6"), (105, "1.0.5"), (1005, "10.0.5")] {
        assert_eq!(dotted(number), text);
        assert_eq!(from_dotted(text), Some(number));
    }
    assert_eq!(from_dotted("2.1"), None);
    assert_eq!(from_dotted("2.1.6.1"), None);
    assert_eq!(from_dotted("2.10.6"), None);
}
