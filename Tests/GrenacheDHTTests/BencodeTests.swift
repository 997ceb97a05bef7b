import Testing

@testable import GrenacheDHT

@Suite("BEP 3: bencoding")
struct BencodeTests {
  @Test(
    "values, read and written",
    arguments: [
      "i0e", "i-1e", "i9223372036854775807e", "0:", "3:abc", "le", "li1e1:ae", "de",
      "d1:ai1e1:bl1:cee", "d0:0:e",
    ])
  func roundTrip(_ text: String) {
    #expect(Bencode(decoding: Array(text.utf8).span)?.encoded == Array(text.utf8))
  }

  @Test(
    "what is no value",
    arguments: [
      "", "i", "ie", "i-e", "i-0e", "i01e", "i1", "i9223372036854775808e", "i1.0e", "1", "1:",
      "-1:a", "01:a", "99999999999999999999:a", "l", "d", "d1:a", "d1:ae", "di1e1:ae",
      "d1:ai1e1:ai2ee",
      "x", "i+1e", "5:abc", String(repeating: "l", count: 33) + String(repeating: "e", count: 33),
    ])
  func refused(_ text: String) {
    #expect(Bencode(decoding: Array(text.utf8).span) == nil)
  }
}
