use super::{murmur2, xx64, xx64_from};

/// Of the reference implementation.
#[test]
fn xx64_is_that_of_the_reference() {
    assert_eq!(xx64(b""), 0xef46_db37_51d8_e999);
    assert_eq!(xx64(b"a"), 0xd24e_c4f1_a98c_6e5b);
    assert_eq!(xx64(b"foo"), 3_728_699_739_546_630_719);
    assert_ne!(xx64_from(1, b"foo"), xx64(b"foo"));
}

/// Of `std::hash<std::string>` of GNU libstdc++ 12.
#[test]
fn murmur2_is_that_of_the_standard_library_of_gnu() {
    let known = [
        ("", 6_142_509_188_972_423_790),
        ("f", 8_968_846_175_329_310_707),
        ("foo", 9_631_199_822_919_835_226),
        ("eight888", 12_385_990_224_883_381_543),
        ("10.0.0.1:80_0", 13_659_246_566_588_789_388),
        ("sixteen_bytes_xx", 5_349_135_548_026_040_619),
        ("[2001:db8::1]:8080_1023", 10_053_078_998_416_210_509),
    ];
    for (text, hash) in known {
        assert_eq!(murmur2(text.as_bytes()), hash, "{text:?}");
    }
}
