import Foundation
import GrenacheAccess
import GrenacheTLS
import Synchronization
import TestSupport
import Testing

@Suite("Access policy: what no rule allows is denied")
struct AccessPolicyTests {
  typealias Right = AccessPolicy.Right

  @Test("P26 without a policy: announce what the certificate names, look up and call anything")
  func byCertificate() throws {
    let policy = AccessPolicy.byCertificate
    let worker = try PeerIdentity.of(services: ["rpc_test", "rest:*"])
    for (key, isAllowed) in [
      ("rpc_test", true), ("rest:util", true), ("rest:", true), ("rest", false),
      ("rpc_test2", false), ("RPC_TEST", false), ("", false), ("other", false),
    ] {
      #expect(policy.decide(.announce, on: key, by: worker).isAllowed == isAllowed, "\(key)")
      #expect(policy.decide(.publish, on: key, by: worker).isAllowed == isAllowed)
    }
    let client = try PeerIdentity.of(dnsNames: ["client.test"])
    for right in [Right.lookup, .put, .call, .subscribe] {
      #expect(policy.decide(right, on: "anything", by: client).isAllowed)
    }
    for right in [Right.announce, .publish] {
      #expect(!policy.decide(right, on: "anything", by: client).isAllowed)
    }
    for right in Right.allCases { #expect(!policy.decide(right, on: "x", by: nil).isAllowed) }
  }

  @Test("identities: URI and DNS names, keys, issuers")
  func identities() throws {
    let peer = try PeerIdentity.of(
      dnsNames: ["a.ops.test"], services: ["billing"])
    let other = [UInt8](repeating: 0, count: 32)
    for (who, matches) in [
      (AccessPolicy.Who.anyone, true), (.uri("grenache:billing"), true),
      (.uri("grenache:*"), true), (.uri("grenache:bill"), false), (.uri("billing"), false),
      (.dns("a.ops.test"), true), (.dns("*.ops.test"), true), (.dns("*.test"), false),
      (.dns("billing"), false), (.publicKeySHA256(peer.publicKeySHA256), true),
      (.publicKeySHA256(other), false), (.publicKeySHA256([]), false),
      (.issuerPublicKeySHA256(peer.issuerPublicKeysSHA256[0]), true),
      (.issuerPublicKeySHA256(peer.publicKeySHA256), false),
      (.issuerPublicKeySHA256(other), false),
    ] {
      let policy = AccessPolicy([
        .init("only", allow: [.call], on: .patterns(["*"]), to: [who])
      ])
      let expected: AccessPolicy.Decision = matches ? .allowed(by: "only") : .denied
      #expect(policy.decide(.call, on: "x", by: peer) == expected, "\(who)")
    }
  }

  @Test("the first rule that allows something is named; rights and keys must both fit")
  func rules() throws {
    let peer = try PeerIdentity.of(dnsNames: ["client.test"])
    let policy = AccessPolicy([
      .init("exact", allow: [.call], on: .patterns(["a", "b"]), to: [.anyone]),
      .init("prefix", allow: [.call, .lookup], on: .patterns(["b*"]), to: [.anyone]),
      .init("nobody", allow: [.put], on: .patterns(["*"]), to: []),
    ])
    for (right, key, rule) in [
      (Right.call, "a", "exact"), (.call, "b", "exact"), (.call, "bb", "prefix"),
      (.lookup, "b", "prefix"), (.lookup, "a", nil), (.call, "ab", nil), (.put, "a", nil),
    ] as [(Right, String, String?)] {
      let expected = rule.map { AccessPolicy.Decision.allowed(by: $0) } ?? .denied
      #expect(policy.decide(right, on: key, by: peer) == expected)
    }
    #expect(!policy.isOpen(.call))
    #expect(AccessPolicy.byCertificate.isOpen(.call))
    #expect(!AccessPolicy.byCertificate.isOpen(.announce))
  }

  @Test("a policy's file says the same as its value")
  func file() throws {
    let hex = String(repeating: "0a", count: 32)
    let text = """
      # who may do what
      rules:
        - name: workers
          allow: [announce, publish]
          keys: certificate
          to: anyone
        - allow: call
          keys: ["rest:*", billing]
          to:
            - uri: spiffe://example.org/shop/*
            - dns: "*.ops.example.org"
            - spki: \(hex)
            - issuer: \(hex.uppercased())
      """
    let digest = [UInt8](repeating: 10, count: 32)
    #expect(
      try AccessPolicy(yaml: text, source: "p.yaml")
        == AccessPolicy([
          .init("workers", allow: [.announce, .publish], on: .namedByCertificate, to: [.anyone]),
          .init(
            "rule 2", allow: [.call], on: .patterns(["rest:*", "billing"]),
            to: [
              .uri("spiffe://example.org/shop/*"), .dns("*.ops.example.org"),
              .publicKeySHA256(digest),
              .issuerPublicKeySHA256(digest),
            ]),
        ]))
    #expect(try AccessPolicy(yaml: "rules: []", source: "p").rules.isEmpty)
  }

  @Test(
    "every refusal of what a file holds names its line",
    arguments: [
      ("", 1, "is not a mapping"), ("rules", 1, "is not a mapping"),
      ("rules: x", 1, "is not a list"), ("other: []", 1, "is no field"),
      ("rules: [", 2, "is not YAML"), ("rules:\n  - 5", 2, "is not a mapping"),
      ("rules:\n  - allow: fly\n    keys: [a]\n    to: anyone", 2, "'fly' is no right"),
      ("rules:\n  - keys: [a]\n    to: anyone", 2, "allow names no right"),
      ("rules:\n  - allow: call\n    keys: [a*b]\n    to: anyone", 3, "is no key pattern"),
      ("rules:\n  - allow: call\n    keys: []\n    to: anyone", 3, "keys names no key"),
      ("rules:\n  - allow: call\n    keys: [a]\n    to: []", 4, "to names nobody"),
      ("rules:\n  - allow: call\n    keys: [a]\n    to:\n      - spki: 12", 5, "is no identity"),
      ("rules:\n  - allow: call\n    keys: [a]\n    to:\n      - cn: x", 5, "is no field"),
      ("rules:\n  - allow: call\n    keys: [a]\n    to: anyone\n    deny: b", 5, "is no field"),
      (
        "rules:\n  - name: [a]\n    allow: call\n    keys: [a]\n    to: anyone", 2,
        "name is no text"
      ),
      ("rules:\n  - allow: {}\n    keys: [a]\n    to: anyone", 2, "allow names no right"),
      ("rules: []\n\nrules: []", 1, "is there twice: rules"),
      ("rules:\n  - allow: call\n    allow: put\n    keys: [a]\n    to: anyone", 2, "twice: allow"),
      ("rules:\n  - a: \u{1}", 2, "is not YAML"), ("a: *b", 1, "is not YAML"),
    ] as [(String, Int, String)])
  func faults(_ text: String, _ line: Int, _ reason: String) {
    let error = #expect(throws: AccessPolicyError.self) {
      try AccessPolicy(yaml: text, source: "p.yaml")
    }
    let fault = error?.faults.first
    #expect(fault?.reason.contains(reason) == true, "\(String(describing: error))")
    #expect(fault?.line == line, "\(String(describing: error))")
    #expect(fault?.remedy.isEmpty == false)
    #expect(error?.faults.allSatisfy { $0.line != nil } == true)
  }

  @Test("what a file says is in no message, beside the words that are wrong")
  func noContent() {
    let text = "rules:\n  - allow: call\n    keys: [secret-name]\n    to: anyone\n    to: anyone\n"
    let error = #expect(throws: AccessPolicyError.self) {
      try AccessPolicy(yaml: text, source: "p.yaml")
    }
    #expect(error?.description.contains("p.yaml:4") == true)
    #expect(error?.description.contains("secret-name") == false, "\(error as Any)")
  }

  @Test(
    "RFC 9525 §6.3 a DNS pattern that no name can match is refused",
    arguments: [
      ("a.test", true), ("*.a.test", true), ("localhost", true), ("xn--bcher-kva.test", true),
      ("_grape.a.test", true), ("A.Test", true), ("*", false), ("*.org", false), ("foo*", false),
      ("foo*.a.test", false), ("a.*.test", false), ("**.a.test", false), ("a..test", false),
      (".a.test", false), ("a.test.", false), ("b\u{fc}cher.test", false), ("a b.test", false),
      ("https://a.test", false), (String(repeating: "a", count: 64) + ".test", false), ("", false),
    ])
  func dnsPatterns(_ pattern: String, _ isGood: Bool) {
    let text = "rules:\n  - allow: call\n    keys: [a]\n    to:\n      - dns: \"\(pattern)\"\n"
    do {
      _ = try AccessPolicy(yaml: text, source: "p.yaml")
      #expect(isGood)
    } catch {
      #expect(!isGood, "\(error)")
      #expect(error.faults.map(\.line) == [5])
      #expect(error.faults.first?.reason == "is no identity")
    }
  }

  @Test("a file that is not UTF-8 is refused with its line, and not repaired")
  func encoding() throws {
    let folder = try TemporaryFolder()
    let path = "\(folder.path)/policy.yaml"
    let head = Array("rules:\n  - allow: call\n    keys: [\"caf".utf8)
    let tail = Array("\"]\n    to: anyone\n".utf8)
    for (bytes, isGood) in [
      ([0xc3, 0xa9], true), ([0xe9], false), ([0xc3], false), ([0xed, 0xa0, 0x80], false),
      ([0xc0, 0x80], false),
    ] as [([UInt8], Bool)] {
      try Data(head + bytes + tail).write(to: URL(filePath: path))
      do {
        _ = try AccessPolicy(file: path)
        #expect(isGood, "\(bytes)")
      } catch {
        #expect(!isGood, "\(error)")
        #expect(error.faults.map(\.line) == [3] && error.faults[0].reason == "is not UTF-8")
      }
    }
  }

  @Test("two faults are two lines; a file that is not there is named")
  func several() {
    let text =
      "rules:\n  - allow: fly\n    keys: [a]\n    to: anyone\n  - allow: call\n    to: anyone"
    let error = #expect(throws: AccessPolicyError.self) {
      try AccessPolicy(yaml: text, source: "p.yaml")
    }
    #expect(error?.faults.count == 2)
    #expect(error?.description.contains("p.yaml:2") == true)
    let missing = #expect(throws: AccessPolicyError.self) {
      try AccessPolicy(file: "/nowhere/p.yaml")
    }
    #expect(missing?.description.contains("/nowhere/p.yaml: does not exist") == true)
  }

  @Test("mutated files give faults and never end the process", arguments: 1...4)
  func mutations(seed: UInt64) {
    let text =
      "rules:\n  - name: a\n    allow: [call, lookup]\n    keys: [\"a*\"]\n    to:\n      - dns: b\n"
    var generator = SeededGenerator(seed: seed)
    for _ in 0..<500 {
      var bytes = Array(text.utf8)
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        let index = Int.random(in: 0..<bytes.count, using: &generator)
        bytes[index] = UInt8.random(in: 0...255, using: &generator)
      }
      _ = try? AccessPolicy(yaml: String(decoding: bytes, as: UTF8.self), source: "p")
    }
  }

  @Test("a policy in use is replaced as a whole; a bad file changes nothing")
  func control() throws {
    let folder = try TemporaryFolder()
    let path = "\(folder.path)/policy.yaml"
    func write(_ text: String) throws {
      try text.write(toFile: path, atomically: true, encoding: .utf8)
    }
    try write("rules:\n  - allow: call\n    keys: [a]\n    to: anyone\n")
    let control = try AccessControl(file: path)
    let peer = try PeerIdentity.of(dnsNames: ["client.test"])
    #expect(control.decide(.call, on: "a", by: peer).isAllowed)
    let version = control.version
    try write("rules: 5")
    #expect(throws: AccessPolicyError.self) { try control.reload() }
    #expect(control.decide(.call, on: "a", by: peer).isAllowed)
    #expect(control.version == version)
    try write("rules: []")
    try control.reload()
    #expect(!control.decide(.call, on: "a", by: peer).isAllowed)
    #expect(control.version != version)
  }
}

@Suite("P22 Who loses every right is looked at again at once")
struct LostRightTests {
  @Test("a change of the policy has the connections of a context looked at, by the new policy")
  func change() throws {
    let authority = try CertificateAuthority()
    let context = try TLSContext(authority.configuration(for: .init(commonName: "here")))
    let control = AccessControl(.byCertificate)
    control.guardConnections(of: context) { policy, peer in
      policy.allowsSomething([.announce, .lookup], to: peer)
    }
    let count = Counter()
    let observation = context.observe { _ in count.increment() }
    let worker = try PeerIdentity.of(services: ["rpc_test"])
    let client = try PeerIdentity.of(dnsNames: ["client.test"])
    #expect(context.admission?(worker) == true && context.admission?(client) == true)
    control.policy = AccessPolicy([
      .init("workers", allow: [.announce], on: .namedByCertificate, to: [.anyone]),
      .init("nothing", allow: [.lookup], on: .patterns([]), to: [.anyone]),
      .init("others", allow: [.lookup], on: .patterns(["*"]), to: [.dns("other.test")]),
      .init("calls", allow: [.call], on: .patterns(["*"]), to: [.anyone]),
    ])
    #expect(count.value == 1)
    #expect(context.admission?(worker) == true)
    #expect(context.admission?(client) == false)
    context.endObservation(observation)
    control.policy = .byCertificate
    #expect(count.value == 1)
  }

  private final class Counter: Sendable {
    private let count = Atomic(0)
    var value: Int { count.load(ordering: .relaxed) }
    func increment() { count.wrappingAdd(1, ordering: .relaxed) }
  }
}

extension PeerIdentity {
  /// The identity of a certificate with these names, as a handshake gives it.
  fileprivate static func of(
    dnsNames: [String] = [], services: [String] = []
  ) throws -> PeerIdentity {
    let authority = try CertificateAuthority()
    let peer = try TLSContext(
      authority.configuration(
        for: .init(commonName: "peer", dnsNames: dnsNames, services: services)))
    let here = try TLSContext(authority.configuration(for: .init(commonName: "here")))
    return try #require(try peerIdentity(of: peer, seenBy: here))
  }
}
