//! The text of a login or text request: pairs, numbers, binary values, and writing it again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::iscsi::text::{
    KEY_MAX_BYTES, Pair, Pairs, TextWriter, decode_binary, is_yes, list, number, value_limit,
};

fuzz_target!(|bytes: &[u8]| {
    let mut buffer = [0; 8192];
    let mut written = TextWriter::new(&mut buffer);
    let mut pairs = Vec::new();
    for pair in Pairs::new(bytes) {
        let Ok(pair) = pair else { break };
        look_at(&pair);
        // Nothing is longer written than read.
        written.pair(pair.key, pair.value).expect("fits");
        pairs.push(pair);
    }
    let again: Result<Vec<Pair<'_>>, _> = Pairs::new(written.bytes()).collect();
    assert_eq!(again.as_ref(), Ok(&pairs), "our own text");
    let mut small = [0; 16];
    let mut cut = TextWriter::new(&mut small);
    for pair in &pairs {
        let before = cut.len();
        if cut.pair(pair.key, pair.value).is_err() {
            assert_eq!(cut.len(), before, "nothing of a pair that does not fit");
        }
    }
});

fn look_at(pair: &Pair<'_>) {
    assert!((1..=KEY_MAX_BYTES).contains(&pair.key.len()));
    assert!(pair.value.len() <= value_limit(pair.key));
    let _ = is_yes(pair.value);
    assert!(list(pair.value).all(|element| !element.is_empty()));
    if let Some(value) = number(pair.value) {
        assert_eq!(number(&value.to_string()), Some(value));
    }
    let mut into = [0; 4096];
    let Some(len) = decode_binary(pair.value, &mut into) else {
        return;
    };
    let mut buffer = [0; 8300];
    let mut text = TextWriter::new(&mut buffer);
    text.binary("CHAP_R", &into[..len]).expect("fits");
    let again = Pairs::new(text.bytes())
        .next()
        .expect("one")
        .expect("our own");
    let mut twice = [0; 4096];
    assert_eq!(decode_binary(again.value, &mut twice), Some(len));
    assert_eq!(twice[..len], into[..len]);
}
