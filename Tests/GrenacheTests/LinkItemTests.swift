import Foundation
import Grenache
import GrenacheTLS
import TestSupport
import Testing

/// The key, the signatures and the targets of BEP 44's table.
private enum Vector {
  static let key =
    "e06d3183d14159228433ed599221b80bd0a5ce8352e4bdf0262f76786ef1c74d"
    + "b7e7a9fea2c0eb269d61e3b38e450a22e754941ac78479d6c54e1faf6037881d"
  static let k = "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548"
  static let sig =
    "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff"
    + "1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01"
  static let saltedSig =
    "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d"
    + "df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08"
  static let target = "4a533d47ec9c7d95b1ad75f576cffc641853b750"
  static let saltedTarget = "411eba73b6f087ca51a3795d9c8c938d365e32c1"
  static let hello = "6d33adc2b6b2c14c3036feefb7fedbca1a880527"
}

private func withLink<Result>(
  answer: @escaping FakeGrape.Answer, attemptTimeout: Duration = .seconds(2.5),
  _ body: (Link, _ asked: @escaping @Sendable () -> Int) async throws -> Result
) async throws -> Result {
  let authority = try TestAuthority()
  return try await FakeGrape.with(try authority.host(), answer: answer) { grape, asked in
    var configuration = LinkConfiguration(grapes: [grape, grape], tls: try authority.client())
    configuration.attemptTimeout = attemptTimeout
    let link = try await Link(configuration, logger: quietLogger)
    let result = try await body(link, asked)
    await link.close()
    return result
  }
}

private func keyPair(_ folder: TemporaryFolder) throws -> ItemKeyPair {
  try ItemKeyPair(file: try write(Vector.key, mode: 0o600, in: folder))
}

private func write(_ text: String, mode: Int, in folder: TemporaryFolder) throws -> String {
  let file = "\(folder.path)/key"
  try Data(text.utf8).write(to: URL(filePath: file))
  try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: file)
  return file
}

@Suite("BEP 44 Getting an item: what comes proves itself, or is refused", .timeLimit(.minutes(2)))
struct LinkGetTests {
  private func get(
    _ target: String, salt: String = "", answer: String
  ) async throws -> StoredItem? {
    try await withLink(answer: { path, _ in (path == "/get" ? 200 : 500, answer) }) { link, _ in
      try await link.get(try #require(ItemTarget(target)), salt: salt)
    }
  }

  @Test("an immutable item is what its hash says; nobody has it: nil")
  func immutable() async throws {
    let item = try await get(Vector.hello, answer: #"{"id":"x","token":null,"v":"hello world"}"#)
    #expect(item?.value == "hello world" && item?.signature == nil)
    #expect(try await get(Vector.hello.uppercased(), answer: "") == nil)
  }

  @Test(
    "a mutable item is signed by the key of its target",
    arguments: [
      (Vector.target, "", Vector.sig, ""), (Vector.saltedTarget, "foobar", Vector.saltedSig, ""),
      (Vector.saltedTarget, "", Vector.saltedSig, #","salt":"foobar""#),
    ])
  func mutable(_ target: String, _ salt: String, _ sig: String, _ more: String) async throws {
    let item = try await get(
      target, salt: salt,
      answer: #"{"v":"Hello World!","k":"\#(Vector.k)","seq":1,"sig":"\#(sig)"\#(more)}"#)
    #expect(item?.value == "Hello World!" && item?.signature?.sequence == 1)
    #expect(item?.signature?.salt == (target == Vector.target ? "" : "foobar"))
  }

  @Test(
    "what does not prove itself is no item",
    arguments: [
      // Another value, immutable and mutable; another number; a signature cut short, or none.
      (Vector.hello, "", #"{"v":"hello world!"}"#),
      (Vector.target, "", #"{"v":"hello world!"}"#),
      (
        Vector.target, "",
        #"{"v":"Hello World?","k":"\#(Vector.k)","seq":1,"sig":"\#(Vector.sig)"}"#
      ),
      (
        Vector.target, "",
        #"{"v":"Hello World!","k":"\#(Vector.k)","seq":2,"sig":"\#(Vector.sig)"}"#
      ),
      (Vector.target, "", #"{"v":"Hello World!","k":"\#(Vector.k)","seq":1,"sig":"305a"}"#),
      (Vector.target, "", #"{"v":"Hello World!","k":"\#(Vector.k)","seq":1}"#),
      (Vector.target, "", #"{"v":"Hello World!","k":"\#(Vector.k)","sig":"\#(Vector.sig)"}"#),
      (Vector.target, "", #"{"v":"Hello World!","k":"77","seq":1,"sig":"\#(Vector.sig)"}"#),
      // Of another target: another salt, or another key.
      (
        Vector.saltedTarget, "",
        #"{"v":"Hello World!","k":"\#(Vector.k)","seq":1,"sig":"\#(Vector.saltedSig)"}"#
      ),
      (
        Vector.saltedTarget, "foo",
        #"{"v":"Hello World!","k":"\#(Vector.k)","seq":1,"sig":"\#(Vector.saltedSig)"}"#
      ),
      (
        Vector.hello, "",
        #"{"v":"Hello World!","k":"\#(Vector.k)","seq":1,"sig":"\#(Vector.sig)"}"#
      ),
    ])
  func forged(_ target: String, _ salt: String, _ answer: String) async throws {
    let error = await #expect(throws: GrenacheError.self) {
      try await get(target, salt: salt, answer: answer)
    }
    #expect(error?.code == .invalidItem, "\(answer)")
  }

  @Test(
    "an error of the grape is one", arguments: [#""ERR_GRAPE_GENERIC""#, "null", "[]", "{}", "{"])
  func refused(_ answer: String) async throws {
    let error = await #expect(throws: GrenacheError.self) {
      try await get(Vector.hello, answer: answer)
    }
    #expect(error?.code == .grapeRefused, "\(answer)")
  }
}

@Suite("BEP 44 Putting an item", .timeLimit(.minutes(2)))
struct LinkPutTests {
  private let folder: TemporaryFolder
  private let key: ItemKeyPair

  init() throws {
    folder = try TemporaryFolder()
    key = try keyPair(folder)
  }

  @Test("the target is the hash, or that of the key and the salt")
  func targets() async throws {
    try await withLink(answer: { _, count in
      (200, "\"\([Vector.hello, Vector.target, Vector.saltedTarget][count - 1])\"")
    }) { link, _ in
      #expect("\(try await link.put("hello world"))" == Vector.hello)
      #expect("\(try await link.put("Hello World!", signedBy: key, sequence: 1))" == Vector.target)
      let salted = try await link.put("Hello World!", signedBy: key, salt: "foobar", sequence: 1)
      #expect("\(salted)" == Vector.saltedTarget)
    }
  }

  @Test(
    "refusals have codes of their own",
    arguments: [
      (301, #""301 CAS mismatch, re-read and try again""#, GrenacheError.Code.compareAndSwapFailed),
      (302, #""302 sequence number less than current""#, .sequenceNotGreater),
      (403, "ERR_GRAPE_NOT_PERMITTED", .notPermitted), (500, "no", .grapeRefused),
      (200, #""All queries failed""#, .grapeRefused), (200, "1", .grapeRefused),
      (200, #""\#(Vector.hello)""#, .grapeRefused),
    ])
  func refusals(_ status: Int, _ body: String, _ code: GrenacheError.Code) async throws {
    try await withLink(answer: { _, _ in (status, body) }) { link, _ in
      let error = await #expect(throws: GrenacheError.self) {
        try await link.put("x", signedBy: key, sequence: 1)
      }
      #expect(error?.code == code)
    }
  }

  @Test("a grape that knows no other is asked whether it keeps the item itself")
  func alone() async throws {
    let item = #"{"v":"Hello World!","k":"\#(Vector.k)","seq":1,"sig":"\#(Vector.sig)"}"#
    for (kept, isStored) in [(item, true), ("", false)] {
      try await withLink(answer: { path, _ in
        (200, path == "/put" ? #""No nodes to query""# : kept)
      }) { link, _ in
        let code: GrenacheError.Code?
        do throws(GrenacheError) {
          try await link.put("Hello World!", signedBy: key, sequence: 1)
          code = nil
        } catch { code = error.code }
        #expect(code == (isStored ? nil : .grapeRefused))
      }
    }
  }

  @Test(
    "limits, at and one past",
    arguments: [
      (999, 64, Int64(1) << 53, true), (1_000, 0, 1, false), (0, 65, 1, false),
      (0, 0, (Int64(1) << 53) + 1, false), (0, 0, -1, false), (0, 0, 0, true),
    ])
  func limits(_ value: Int, _ salt: Int, _ sequence: Int64, _ isAllowed: Bool) async throws {
    let salt = String(repeating: "s", count: salt)
    let target = ItemTarget(publicKey: key.publicKey, salt: salt)
    try await withLink(answer: { _, _ in (200, "\"\(target)\"") }) { link, asked in
      let code: GrenacheError.Code?
      do throws(GrenacheError) {
        try await link.put(
          String(repeating: "v", count: value), signedBy: key, salt: salt, sequence: sequence)
        code = nil
      } catch { code = error.code }
      #expect(code == (isAllowed ? nil : .invalidPayload))
      #expect(asked() == (isAllowed ? 1 : 0))
    }
  }

  @Test(
    "an immutable put goes on to the next grape; a mutable one that may have been heard does not")
  func repeating() async throws {
    let gate = Tally()
    try await withLink(
      answer: { _, count in
        if count == 1 { await gate.reaches(1) }
        return (200, "\"\(Vector.hello)\"")
      }, attemptTimeout: .seconds(1)
    ) { link, asked in
      try await link.put("hello world")
      #expect(asked() == 2)
      await gate.add()
    }
    try await withLink(
      answer: { _, _ in
        await gate.reaches(2)
        return (200, "\"\(Vector.target)\"")
      }, attemptTimeout: .seconds(1)
    ) { link, asked in
      let error = await #expect(throws: GrenacheError.self) {
        try await link.put("Hello World!", signedBy: key, sequence: 1)
      }
      #expect(error?.code == .connectionLost && error?.isRetryable == false)
      #expect(asked() == 1)
      await gate.add()
    }
  }
}

@Suite("Key files of items")
struct ItemKeyPairTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  private func mode(_ file: String) throws -> Int? {
    try FileManager.default.attributesOfItem(atPath: file)[.posixPermissions] as? Int
  }

  @Test("a file of the existing tools, with or without a line feed, in either case")
  func existing() throws {
    for text in [Vector.key, Vector.key + "\n", Vector.key.uppercased()] {
      let pair = try ItemKeyPair(file: try write(text, mode: 0o600, in: folder))
      #expect("\(pair)" == "Ed25519 \(Vector.k)")
    }
  }

  @Test("what is written can be read again, by its owner alone, and replaces nothing")
  func written() throws {
    let file = "\(folder.path)/new/keys/key"
    let pair = try ItemKeyPair()
    try pair.write(to: file)
    #expect(try mode(file) == 0o600)
    #expect(try mode("\(folder.path)/new/keys") == 0o700)
    #expect(try ItemKeyPair(file: file).publicKey == pair.publicKey)
    let other = try ItemKeyPair()
    let error = #expect(throws: GrenacheError.self) { try other.write(to: file) }
    #expect(error?.message == "\(file) exists already")
    #expect(try ItemKeyPair(file: file).publicKey == pair.publicKey)
    try other.write(to: file, replacing: true)
    #expect(try ItemKeyPair(file: file).publicKey == other.publicKey)
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: "\(folder.path)/new/keys").sorted()
        == ["key", "key.pub"])
  }

  @Test("of several that replace a key at the same time, both files are of the same one")
  func concurrent() throws {
    let file = "\(folder.path)/key"
    for _ in 0..<50 {
      let pairs = try (0..<4).map { _ in try ItemKeyPair() }
      DispatchQueue.concurrentPerform(iterations: pairs.count) { index in
        try? pairs[index].write(to: file, replacing: true)
      }
      let kept = try ItemKeyPair(file: file)
      let published = try String(contentsOfFile: "\(file).pub", encoding: .utf8)
      #expect(published == Digest.hex(kept.publicKey))
    }
  }

  @Test(
    "files that are none, or others can read",
    arguments: [
      ("", 0o600, "is no key of 128 digits"), (Vector.k, 0o600, "is no key of 128 digits"),
      (Vector.key + "00", 0o600, "is no key of 128 digits"),
      (Vector.key.replacing("e0", with: "g0"), 0o600, "is no key of 128 digits"),
      (String(repeating: "0", count: 128), 0o600, "is no key of Ed25519"),
      (Vector.key, 0o640, "is open to others than its owner"),
    ])
  func refused(_ text: String, _ mode: Int, _ reason: String) throws {
    let file = try write(text, mode: mode, in: folder)
    let error = #expect(throws: GrenacheError.self) { try ItemKeyPair(file: file) }
    #expect(error?.code == .invalidConfiguration)
    #expect(error?.message.hasPrefix("\(file): \(reason)") == true, "\(error?.message ?? "")")
    #expect(error?.message.contains(Vector.key.prefix(16)) == false)
  }

  @Test("P42 printed in any way, a pair shows nothing of its key")
  func printed() throws {
    let pair = try keyPair(folder)
    var dumped = ""
    dump(pair, to: &dumped)
    let secret = Vector.key.prefix(2)
    #expect(!"\(pair)".hasPrefix(secret) && dumped.contains("publicKey"))
    #expect(!dumped.contains("expandedKey") && !String(reflecting: pair).contains("expandedKey"))
  }
}
