import Foundation
import TestSupport
import Testing

@testable import Grenache

@Suite("JSON scanner, RFC 8259")
struct JSONScannerTests {
  private func isValue(_ text: String) -> Bool { JSONScanner.isOneValue(Array(text.utf8).span) }

  @Test(
    "§2 to §7 values",
    arguments: [
      "null", "true", "false", "0", "-0", "1", "-1.5", "1e5", "1E+5", "1.25e-3",
      "123456789012345678901",
      "\"\"", "\"a\"", #""\"\\\/\b\f\n\r\t""#, #""\u00e9\ud83d\ude00""#, #""\ud800""#, "\"é😀\"",
      "[]", "{}", "[1]", "[1,2]", "[[],{}]", "{\"a\":1}", "{\"a\":[{}],\"b\":null}",
      " \t\r\n1 \t\r\n",
      "[ 1 , 2 ]", "{ \"a\" : { } }",
    ])
  func values(_ text: String) { #expect(isValue(text)) }

  @Test(
    "what is no value",
    arguments: [
      "", " ", "nul", "nulll", "True", "+1", "01", "-", "1.", ".5", "1e", "1e+", "0x1", "NaN",
      "\"", "\"a", "'a'", #""\x""#, #""\u12""#, #""\u12g4""#, "\"\u{1}\"", "\"\n\"", "[", "]", "[1",
      "[1,",
      "[1,]", "[,1]", "[1 2]", "{", "}", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}",
      "{a:1}", "{1:1}",
      "{\"a\" 1}", "[}", "{]", "[1}", "{\"a\":1]", "1 2", "[]]", "{}}", "[[]", "null,",
    ])
  func noValues(_ text: String) { #expect(!isValue(text)) }

  @Test("P13 nested 64 deep, and 65 deep not", arguments: ["[", "{\"a\":"])
  func depth(_ open: String) {
    let close = open == "[" ? "]" : "}"
    for (depth, isRight) in [(1, true), (63, true), (64, true), (65, false), (10_000, false)] {
      let text =
        String(repeating: open, count: depth) + "1" + String(repeating: close, count: depth)
      #expect(isValue(text) == isRight, "\(depth)")
    }
    let wide = "[" + Array(repeating: "[[[]]]", count: 1_000).joined(separator: ",") + "]"
    #expect(isValue(wide))
  }

  @Test("agrees with another parser on mutations of valid text", arguments: 1...8)
  func differential(seed: UInt64) {
    let corpus = [
      #"["1","rpc_test",{"a":[1,-2.5e3,true,null],"b":"x\n\u0041"}]"#, #"{"k":{"k":[[],{}]}}"#,
      "[0,1,10,0.5]", #"["\\","\"",""]"#,
    ]
    let alphabet = Array("[]{},:\"\\0123.eE+-ntfu \n\u{1}".utf8)
    var generator = SeededGenerator(seed: seed)
    for _ in 0..<4_000 {
      var bytes = Array((corpus.randomElement(using: &generator) ?? "").utf8)
      for _ in 0..<Int.random(in: 1...3, using: &generator) {
        let index = Int.random(in: 0..<bytes.count, using: &generator)
        let byte = alphabet.randomElement(using: &generator) ?? 0
        switch Int.random(in: 0..<3, using: &generator) {
        case 0: bytes[index] = byte
        case 1: bytes.insert(byte, at: index)
        default: bytes.remove(at: index)
        }
        if bytes.isEmpty { bytes = [0x30] }
      }
      let ours = JSONScanner.isOneValue(bytes.span)
      let theirs =
        (try? JSONSerialization.jsonObject(with: Data(bytes), options: .fragmentsAllowed)) != nil
      let text = String(decoding: bytes, as: UTF8.self)
      // The other one is lax about a comma in front of a closing bracket.
      if theirs, text.firstMatch(of: /,[ \n]*[\]}]/) != nil { continue }
      #expect(ours == theirs, "\(text)")
    }
  }
}

@Suite("RPC envelopes, as existing peers write and read them")
struct EnvelopeTests {
  /// What a server makes of a message: identifier, key and payload as text.
  private struct Split: Equatable {
    var rid: String
    var key: String?
    var payload: String

    init?(_ text: String) {
      let bytes = Array(text.utf8)
      guard let envelope = RPCRequestEnvelope(bytes.span, checksUTF8: true) else { return nil }
      rid = String(decoding: envelope.rid.bytes(in: bytes.span), as: UTF8.self)
      key = envelope.keyString(in: bytes.span)
      payload = String(decoding: envelope.payload.bytes(in: bytes.span), as: UTF8.self)
    }

    init(_ rid: String, _ key: String?, _ payload: String) {
      self.rid = rid
      self.key = key
      self.payload = payload
    }
  }

  @Test("a call, with white space, with odd identifiers, with more or fewer elements")
  func calls() {
    let table: [(String, Split?)] = [
      (#"["r1","rpc_test","hello"]"#, Split(#""r1""#, "rpc_test", #""hello""#)),
      (" [ \"r1\" ,\n\"k\"\t, { \"a\" : 1 } ] ", Split(#""r1""#, "k", #"{ "a" : 1 }"#)),
      (#"[7,"k",1]"#, Split("7", "k", "1")),
      (#"[null,"k",1]"#, Split("null", "k", "1")),
      (#"[{"a":1},"k",1]"#, Split(#"{"a":1}"#, "k", "1")),
      (#"["r","k"]"#, Split(#""r""#, "k", "null")),
      (#"["r"]"#, Split(#""r""#, nil, "null")),
      ("[]", Split("null", nil, "null")),
      (#"["r","k",1,2,3]"#, Split(#""r""#, "k", "1")),
      (#"["r",5,1]"#, Split(#""r""#, nil, "1")),
      (#"["r","\u006b\n",1]"#, Split(#""r""#, "k\n", "1")),
      ("{}", Split("null", nil, "null")), ("5", Split("null", nil, "null")),
      (#""x""#, Split("null", nil, "null")), ("true", Split("null", nil, "null")),
      ("-0.0e1", nil), ("0", nil), ("null", nil), ("false", nil), (#""""#, nil), ("", nil),
      ("[", nil), (#"["r","k",]"#, nil), (#"["r","k",1]]"#, nil), ("hello", nil),
    ]
    for (text, expected) in table { #expect(Split(text) == expected, "\(text)") }
  }

  @Test("bytes that are not UTF-8 are no call, where the transport has not checked them")
  func utf8() {
    let bytes = Array(#"["r","k",""#.utf8) + [0xff] + Array(#""]"#.utf8)
    #expect(RPCRequestEnvelope(bytes.span, checksUTF8: true) == nil)
  }

  @Test("a call cut off anywhere is none, a reply neither")
  func truncation() {
    let call = Array(#"["r1","rpc_test",{"a":[1,"x"]}]"#.utf8)
    for end in 0..<call.count {
      #expect(RPCRequestEnvelope(Array(call[..<end]).span, checksUTF8: true) == nil)
    }
    let reply = Array(#"["12",null,[true]]"#.utf8)
    for end in 0..<reply.count {
      #expect(RPCReplyEnvelope(Array(reply[..<end]).span, checksUTF8: true) == nil)
    }
  }

  @Test("what the client writes is byte for byte what existing clients write")
  func written() {
    var bytes: [UInt8] = []
    let payload = Array(#"{"é":1}"#.utf8)
    RPCRequestEnvelope.append(
      rid: 18_446_744_073_709_551_615, service: "a\"b\\c\u{1}é", payload: payload, to: &bytes)
    #expect(
      String(decoding: bytes, as: UTF8.self)
        == #"["18446744073709551615","a\"b\\c\u0001é",{"é":1}]"#)
    let envelope = RPCRequestEnvelope(bytes.span, checksUTF8: true)
    #expect(envelope?.keyString(in: bytes.span) == "a\"b\\c\u{1}é")
  }

  @Test("replies: result, error, both, an empty error, and what is none")
  func replies() {
    let table: [(String, number: UInt64?, error: String?, result: String?)] = [
      (#"["1",null,"world"]"#, 1, nil, #""world""#),
      (#"["1","boom",null]"#, 1, "boom", "null"),
      (#"["1","boom",{"d":1}]"#, 1, "boom", #"{"d":1}"#),
      (#"["1","",null]"#, 1, nil, "null"),
      (#"["1",false,7]"#, 1, nil, "7"),
      (#"["1",0,7]"#, 1, nil, "7"),
      (#"["1",1,7]"#, 1, "1", "7"),
      (#"["1",true,7]"#, 1, "true", "7"),
      (#"["1",{"code":5},null]"#, 1, #"{"code":5}"#, "null"),
      (#"["1"]"#, 1, nil, nil),
      (#"["18446744073709551615",null,1]"#, .max, nil, "1"),
      (#"["18446744073709551616",null,1]"#, nil, nil, "1"),
      (#"["99999999999999999999999",null,1]"#, nil, nil, "1"),
      (#"["",null,1]"#, nil, nil, "1"),
      (#"["-1",null,1]"#, nil, nil, "1"),
      (#"["x",null,1]"#, nil, nil, "1"),
      (#"[1,null,1]"#, nil, nil, "1"),
    ]
    for (text, number, error, result) in table {
      let bytes = Array(text.utf8)
      guard let reply = RPCReplyEnvelope(bytes.span, checksUTF8: true) else {
        Issue.record("\(text) is a reply")
        continue
      }
      #expect(reply.ridNumber(in: bytes.span) == number, "\(text)")
      #expect(reply.errorMessage(in: bytes.span) == error, "\(text)")
      let beside = reply.resultBesideError(in: bytes.span)
      #expect(
        beside.map { String(decoding: $0, as: UTF8.self) } == (result == "null" ? nil : result))
      let range = reply.result.map { String(decoding: bytes[$0], as: UTF8.self) }
      #expect(range == result, "\(text)")
    }
    for text in ["", "null", "{}", "5", "[]", "[1", #"["1",null,1]x"#, #"["1" null 1]"#] {
      #expect(RPCReplyEnvelope(Array(text.utf8).span, checksUTF8: true) == nil, "\(text)")
    }
  }

  @Test("the length of a reply is known before it is written, and escapes survive the round trip")
  func replyWriting() {
    for text in ["", "plain", "\"\\\n\r\t\u{8}\u{c}\u{0}\u{1f}", "é😀\u{2028}"] {
      var bytes: [UInt8] = []
      RPCReplyEnvelope.append(rid: Array("\"5\"".utf8), error: text, to: &bytes)
      let reply = RPCReplyEnvelope(bytes.span, checksUTF8: true)
      #expect(reply?.errorMessage(in: bytes.span) ?? "" == text)
      var written: [UInt8] = []
      RPCReplyEnvelope.append(rid: [0x35], result: Array(text.utf8), to: &written)
      #expect(
        written.count == RPCReplyEnvelope.byteCount(rid: [0x35], result: Array(text.utf8)))
    }
  }

  @Test("strings: pairs of surrogates, and a lone one as U+FFFD")
  func strings() {
    for (text, expected) in [
      (#"\ud83d\ude00"#, "😀"), (#"\ud83d"#, "\u{fffd}"), (#"\ude00"#, "\u{fffd}"),
      (#"\ud83dx"#, "\u{fffd}x"), (#"\ud83d\u0041"#, "\u{fffd}A"), (#"a\/b"#, "a/b"),
    ] {
      #expect(JSONText.string(Array(text.utf8).span) == expected, "\(text)")
    }
  }

  @Test("random bytes never trap", arguments: 1...4)
  func garbage(seed: UInt64) {
    var generator = SeededGenerator(seed: seed)
    let alphabet = Array("[]{},:\"\\u0d8e1nt \u{80}".utf8)
    for _ in 0..<5_000 {
      let count = Int.random(in: 0..<40, using: &generator)
      let bytes = (0..<count).map { _ in alphabet.randomElement(using: &generator) ?? 0 }
      if let envelope = RPCRequestEnvelope(bytes.span, checksUTF8: false) {
        _ = envelope.keyString(in: bytes.span)
        _ = envelope.payload.bytes(in: bytes.span)
      }
      if let reply = RPCReplyEnvelope(bytes.span, checksUTF8: false) {
        _ = reply.ridNumber(in: bytes.span)
        _ = reply.errorMessage(in: bytes.span)
      }
    }
  }
}
