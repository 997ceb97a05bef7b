import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import TestSupport
import Testing

@testable import GrenacheDHT
@testable import GrenacheGrape

private func host(_ text: String) -> DHTHost { address(text, 0).host }

private func address(_ text: String, _ port: UInt16) -> DHTAddress {
  DHTAddress(socket(text, port))
}

private func socket(_ text: String, _ port: UInt16 = 1) -> SocketAddress {
  guard let address = SocketAddress(ip: text, port: port) else {
    Issue.record("\(text) is no address")
    return .loopback(port: 0)
  }
  return address
}

@Suite(
  "Nobody elsewhere is told a loopback address, and nobody one service twice",
  .timeLimit(.minutes(2)))
struct OwnHostTests {
  // MARK: Who sees this host where

  @Test(
    "who asks over loopback is told loopback; others the address that they have reached",
    arguments: [
      ("127.0.0.1", "127.0.0.1", "127.0.0.1"), ("127.0.0.1", "10.0.0.5", "127.0.0.1"),
      ("::1", "::1", "127.0.0.1"), ("::ffff:127.0.0.1", "::ffff:127.0.0.1", "127.0.0.1"),
      ("10.0.0.7", "10.0.0.5", "10.0.0.5"), ("::ffff:10.0.0.7", "::ffff:10.0.0.5", "10.0.0.5"),
      ("10.0.0.5", "10.0.0.5", "10.0.0.5"), ("8.8.8.8", "203.0.113.5", "203.0.113.5"),
      ("10.0.0.7", "203.0.113.5", "203.0.113.5"),
      // Behind something that translates: the address that all have for it.
      ("8.8.8.8", "10.0.0.5", "203.0.113.9"), ("8.8.8.8", "127.0.0.1", "203.0.113.9"),
      ("2001:db8::7", "2001:db8::5", "2001:db8::5"), ("2001:db8::7", "fd00::5", "2001:db8::9"),
    ])
  func view(_ caller: String, _ listener: String, _ expected: String) {
    let hosts = PublicHosts(ipv4: host("203.0.113.9"), ipv6: host("2001:db8::9"))
    let view = HostView(caller: socket(caller), listener: socket(listener))
    #expect(view.host(hosts) == host(expected))
    if expected != "127.0.0.1" {
      #expect(view.host(PublicHosts())?.isLoopback != true)
    }
  }

  @Test("where no address is known that would be of use, nothing is told")
  func unknown() {
    let found = FoundPeers([.here(port: 1), .elsewhere(address("8.8.4.4", 2))], PublicHosts())
    let outside = HostView(caller: socket("8.8.8.8"), listener: socket("10.0.0.5"))
    #expect(found.addresses(outside) == ["8.8.4.4:2"])
    #expect(Set(found.addresses(.loopback)) == ["8.8.4.4:2", "127.0.0.1:1"])
    #expect(found.addresses(.at(host("8.8.4.4"))) == ["8.8.4.4:2", "8.8.4.4:1"])
    let twice = FoundPeers([.here(port: 2), .elsewhere(address("8.8.4.4", 2))], PublicHosts())
    #expect(twice.addresses(.at(host("8.8.4.4"))) == ["8.8.4.4:2"])
  }

  // MARK: What is on this host

  private func sort(
    _ batches: [[(String, UInt16)]], stored: [(String, UInt16)] = []
  ) -> [FoundPeer] {
    let own: Set = [host("10.0.0.5"), host("203.0.113.5"), host("2001:db8::5")]
    var sorter = PeerSorter(stored: stored.map { address($0.0, $0.1) })
    return batches.flatMap { batch in
      sorter.sort(batch.map { address($0.0, $0.1) }) { $0.isLoopback || own.contains($0) }
    }
  }

  @Test("what others name of this host's addresses is the service that is stored here")
  func merged() {
    let others = FoundPeer.elsewhere(address("10.0.0.6", 4_001))
    #expect(
      sort([[("127.0.0.1", 4_001), ("10.0.0.5", 4_001), ("10.0.0.6", 4_001)]])
        == [.here(port: 4_001), others])
    #expect(
      sort([[("10.0.0.5", 4_001), ("::1", 4_001), ("203.0.113.5", 4_001), ("127.0.0.1", 4_001)]])
        == [.here(port: 4_001)])
    #expect(
      sort([[("203.0.113.5", 4_001)], [("2001:db8::5", 4_001)]], stored: [("127.0.0.1", 4_001)])
        == [.here(port: 4_001)])
    // Another port is another service, and so is what nobody has announced here.
    #expect(
      sort([[("127.0.0.1", 4_001), ("10.0.0.5", 4_002)]])
        == [.here(port: 4_001), .elsewhere(address("10.0.0.5", 4_002))])
  }

  @Test("one batch after the other: what was named once is not told again under another address")
  func batches() {
    #expect(
      sort([[("10.0.0.5", 1)], [("127.0.0.1", 1)], [("203.0.113.5", 1)], [("10.0.0.5", 1)]])
        == [.elsewhere(address("10.0.0.5", 1))])
  }

  // MARK: What is announced

  @Test(
    "a caller on this host announces what is here, over whichever address; others what is theirs",
    arguments: [
      ("127.0.0.1", "127.0.0.1", nil, "here"), ("::1", "::1", nil, "here"),
      ("10.0.0.5", "10.0.0.5", nil, "here"), ("::ffff:10.0.0.5", "::ffff:10.0.0.5", nil, "here"),
      ("127.0.0.1", "127.0.0.1", "127.0.0.1", "here"), ("10.0.0.5", "10.0.0.5", "::1", "here"),
      ("127.0.0.1", "10.0.0.5", "10.0.0.5", "here"),
      ("10.0.0.7", "10.0.0.5", nil, "10.0.0.7"), ("10.0.0.7", "10.0.0.5", "10.0.0.7", "10.0.0.7"),
      ("10.0.0.7", "10.0.0.5", "10.9.8.7", "10.9.8.7"),
      ("127.0.0.1", "127.0.0.1", "10.9.8.7", "10.9.8.7"),
      ("10.0.0.7", "10.0.0.5", "10.9.8.6", "refused"),
      // The certificate bears them, and they are another machine for everybody.
      ("10.0.0.7", "10.0.0.5", "127.0.0.1", "refused"), ("10.0.0.7", "10.0.0.5", "::1", "refused"),
      ("10.0.0.7", "10.0.0.5", "::ffff:127.0.0.1", "refused"),
    ] as [(String, String, String?, String)])
  func place(_ caller: String, _ listener: String, _ named: String?, _ expected: String) {
    let covered = Set(["10.9.8.7", "127.0.0.1", "::1"].map { socket($0).host })
    let place = AnnouncedPlace(
      port: 4_001, named: named.map { socket($0) }, caller: socket(caller),
      listener: socket(listener)
    ) { covered.contains($0.host) }
    switch expected {
    case "here": #expect(place == .here(address("127.0.0.1", 4_001)))
    case "refused": #expect(place == .refused)
    default: #expect(place == .elsewhere(address(expected, 4_001)))
    }
  }

  @Test("what was announced over one address of the host is taken back over another one")
  func withdrawal() async throws {
    let client = try TestAuthority()
    let worker = try client.worker("svc")
    try await withGrape(
      tls: try client.host(), configure: { $0.additionalListeners = [("::1", 0)] }
    ) { grape in
      let service = "{\"data\":[\"svc\",4001]}"
      for (first, second) in [(0, 1), (1, 0)] {
        _ = try await post(service, "/announce", to: grape.apis[first], as: worker)
        for api in grape.apis {
          let found = try await post("{\"data\":\"svc\"}", "/lookup", to: api, as: worker)
          #expect(found.body == "[\"127.0.0.1:4001\"]")
        }
        _ = try await post(service, "/withdraw", to: grape.apis[second], as: worker)
        let none = try await post(
          "{\"data\":\"svc\"}", "/lookup", to: grape.apis[first], as: worker)
        #expect(none.body == "[]")
      }
    }
  }

  // MARK: Over a network

  private static let networkAddress = NetworkInterfaces.addresses()
    .map { SocketAddress(host: $0, port: 0) }
    .first { address in
      if case .ipv4 = address.host { !address.isLoopback } else { false }
    }

  @Test(
    "grapes on a network address: who asks there is told that address, once, by HTTPS and WSS",
    .enabled(if: networkAddress != nil))
  func network() async throws {
    let ip = try #require(Self.networkAddress).ip
    let authority = try TestAuthority()
    let (host, worker) = (try authority.host(), try authority.worker("svc"))
    let everywhere: @Sendable (inout GrapeConfiguration) -> Void = {
      $0.additionalListeners = [(ip, 0)]
      $0.dhtHost = "0.0.0.0"
      $0.acceptsAnyNodeIdentifier = true
      $0.sharesPrivateNetwork = true
    }
    try await withGrape(tls: host, configure: everywhere) { first in
      let bootstrap = [Endpoint(host: ip, port: first.dht.port)]
      try await withGrape(tls: host, bootstrap: bootstrap, configure: everywhere) { second in
        try await waitUntilReady(second, as: worker)
        let announced = try await post(
          "{\"data\":[\"svc\",4001]}", "/announce", to: second.apis[0], as: worker)
        #expect(announced.body == "1")
        for (api, expected) in [
          (second.apis[0], "127.0.0.1"), (second.apis[1], ip), (first.apis[1], ip),
        ] {
          let found = try await post("{\"data\":\"svc\"}", "/lookup", to: api, as: worker)
          #expect(found.body == "[\"\(expected):4001\"]")
          let watcher = try await Watcher.open(api, as: worker)
          try await watcher.send("{\"data\":\"svc\"}")
          #expect(
            try await watcher.next() == "{\"key\":\"svc\",\"peers\":[\"\(expected):4001\"]}")
          await watcher.close()
        }
      }
    }
  }
}

@Suite(
  "BEP 5: what is on this host is told to other nodes at its own address", .timeLimit(.minutes(2)))
struct OwnHostKRPCTests {
  /// What a node with these addresses answers somebody who asks for the peers of a key, of which it
  /// stores a service on this host and another one.
  private func peers(
    askedFrom source: String, interfaces: [String]
  ) throws -> [DHTAddress] {
    var generator = SeededGenerator(seed: 1)
    var configuration = DHTConfiguration()
    configuration.families = [.ipv4, .ipv6]
    var node = DHTNode(
      id: .random(using: &generator), configuration: configuration, now: .zero,
      cryptography: .openSSL, using: &generator)
    node.setInterfaces(interfaces.map(host))
    _ = node.keep(FoundPeer.stored(onThisHostAt: 4_001), for: [1], now: .zero)
    _ = node.keep(address("10.0.0.6", 2), for: [1], now: .zero)
    let query = KRPCQuery.getPeers(key: [1]).encoded(
      transaction: Array("aa".utf8), from: .random(using: &generator), isReadOnly: true)
    node.datagramReceived(query.span, from: address(source, 99), now: .zero, using: &generator)
    while let action = node.nextAction() {
      guard case .send(let datagram, _) = action,
        case .response(_, let response)? = try? KRPCMessage(decoding: datagram.span)
      else { continue }
      return (response.peers ?? []).sorted()
    }
    throw TimedOut()
  }

  @Test(
    "in a private network the nearest of the host's addresses, in the world the public one, or none",
    arguments: [
      ("127.0.0.1", ["10.0.0.5"], "127.0.0.1"),
      ("10.0.0.7", ["172.17.0.1", "10.0.0.5"], "10.0.0.5"),
      ("172.17.0.9", ["10.0.0.5", "172.17.0.1"], "172.17.0.1"),
      // Another block has no more in common for its first bits: the first interface.
      ("192.168.1.7", ["10.0.0.5", "172.17.0.1"], "10.0.0.5"),
      ("192.168.1.7", ["10.0.0.5", "192.168.9.5", "172.17.0.1"], "192.168.9.5"),
      ("10.0.0.7", ["169.254.0.5", "203.0.113.5"], "203.0.113.5"),
      ("169.254.0.7", ["10.0.0.5", "169.254.0.5"], "169.254.0.5"),
      ("fd00::7", ["fe80::5", "2001:db8::5", "fd01::5"], "fd01::5"),
      ("8.8.8.8", ["10.0.0.5", "203.0.113.5"], "203.0.113.5"),
      ("10.0.0.7", ["203.0.113.5"], "203.0.113.5"), ("8.8.8.8", ["10.0.0.5"], nil),
      ("10.0.0.7", [], nil),
      ("2001:db8::7", ["10.0.0.5", "fe80::5", "2001:db8::5"], "2001:db8::5"),
    ] as [(String, [String], String?)])
  func asked(_ source: String, _ interfaces: [String], _ expected: String?) throws {
    let named = try peers(askedFrom: source, interfaces: interfaces)
    let own = expected.map { address($0, 4_001) }
    let other = address("10.0.0.6", 2)
    let isIPv6 = host(source).family == .ipv6
    #expect(named == ([own, isIPv6 ? nil : other].compactMap(\.self)).sorted())
  }
}
