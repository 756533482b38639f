//! What kubectl prints, in every version, line by line; see `conformance::transcript`. `UPDATE_EXPECT=1` writes the
//! transcripts anew, to be read before they are committed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test or benchmark fails by panicking")]

use conformance::transcript;

macro_rules! transcripts {
    ($($name:ident: $steps:literal => $golden:literal;)*) => {$(
        #[test]
        fn $name() {
            let printed = transcript::run(include_str!($steps));
            expect_test::expect_file![$golden].assert_eq(&printed);
        }
    )*};
}

transcripts! {
    discover: "transcripts/discover.txt" => "transcripts/discover.golden";
    make: "transcripts/make.txt" => "transcripts/make.golden";
    apply: "transcripts/apply.txt" => "transcripts/apply.golden";
    change: "transcripts/change.txt" => "transcripts/change.golden";
    read: "transcripts/read.txt" => "transcripts/read.golden";
    mistakes: "transcripts/mistakes.txt" => "transcripts/mistakes.golden";
    delete: "transcripts/delete.txt" => "transcripts/delete.golden";
}
