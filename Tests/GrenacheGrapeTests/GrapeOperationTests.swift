import Foundation
import GrenacheAccess
import GrenacheDHT
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import TestSupport
import Testing

@testable import GrenacheGrape

@Suite("What a grape does beyond existing ones", .timeLimit(.minutes(2)))
struct GrapeOperationTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  @Test("P27 what is withdrawn is gone within 1 s on its grape, and within 2 s on five others")
  func withdrawal() async throws {
    let (host, client) = (try authority.host(), try authority.worker("svc"))
    try await withGrapes(6, tls: host) { grapes in
      var clients: [KeptClient] = []
      for grape in grapes {
        clients.append(try await KeptClient(client, grape.api))
        try await waitUntilReady(grape, as: client)
      }
      try await eventually {
        try await clients[5].post("{\"data\":[\"svc\",1]}", "/announce").body == "5"
      }
      _ = try await clients[5].post("{\"data\":[\"svc\",2]}", "/announce")
      // Every grape has just found both, and keeps that for a moment.
      for client in clients {
        try await eventually {
          let found = try await client.post("{\"data\":\"svc\"}", "/lookup").body
          return found.contains(":1\"") && found.contains(":2\"")
        }
      }
      let start = ContinuousClock.now
      let withdrawn = try await clients[5].post("{\"data\":[\"svc\",1]}", "/withdraw")
      #expect(withdrawn.body == "5")
      for (client, limit) in zip(clients.reversed(), [1, 2, 2, 2, 2, 2]) {
        try await eventually {
          try await client.post("{\"data\":\"svc\"}", "/lookup").body == "[\"127.0.0.1:2\"]"
        }
        #expect(ContinuousClock.now - start < .seconds(limit))
      }
    }
  }

  @Test("P26 a service is withdrawn only by whom the policy lets announce it")
  func foreignWithdrawal() async throws {
    let (worker, client) = (try authority.worker("svc"), try authority.client())
    try await withGrape(tls: try authority.host()) { grape in
      _ = try await post("{\"data\":[\"svc\",1]}", "/announce", to: grape.api, as: worker)
      let denied = try await post("{\"data\":[\"svc\",1]}", "/withdraw", to: grape.api, as: client)
      #expect(denied.status == 403)
      let found = try await post("{\"data\":\"svc\"}", "/lookup", to: grape.api, as: client)
      #expect(found.body == "[\"127.0.0.1:1\"]")
    }
  }

  @Test("P26 another address is announced only if the certificate covers it")
  func addresses() async throws {
    let covered = try authority.authority.configuration(
      for: .init(commonName: "w", ipAddresses: ["10.9.8.7"], services: ["svc"]))
    let worker = try authority.worker("svc")
    try await withGrape(tls: try authority.host()) { grape in
      let body = "{\"data\":[\"svc\",7,\"10.9.8.7\"]}"
      let denied = try await post(body, "/announce", to: grape.api, as: worker)
      #expect(denied.status == 403)
      let allowed = try await post(body, "/announce", to: grape.api, as: covered)
      #expect(allowed.status == 200 && allowed.body == "1", "kept here, by design")
      let found = try await post("{\"data\":\"svc\"}", "/lookup", to: grape.api, as: worker)
      #expect(found.body == "[\"10.9.8.7:7\"]")
    }
  }

  @Test("what is elsewhere is withdrawn here alone: not what this host has announced")
  func elsewhere() async throws {
    let host = try authority.host()
    let worker = try authority.authority.configuration(
      for: .init(commonName: "w", ipAddresses: ["10.9.8.7"], services: ["svc"]))
    try await withGrape(tls: host) { first in
      try await withGrape(tls: host, bootstrap: [Endpoint(first.dht)]) { second in
        try await waitUntilReady(second, as: worker)
        let here = "{\"data\":[\"svc\",7]}"
        let there = "{\"data\":[\"svc\",7,\"10.9.8.7\"]}"
        for body in [here, there] {
          let announced = try await post(body, "/announce", to: second.api, as: worker)
          #expect(announced.body == "1")
        }
        for count in ["1", "0"] {
          let withdrawn = try await post(there, "/withdraw", to: second.api, as: worker)
          #expect(withdrawn.status == 200 && withdrawn.body == count)
        }
        for grape in [first, second] {
          let found = try await post("{\"data\":\"svc\"}", "/lookup", to: grape.api, as: worker)
          #expect(found.body == "[\"127.0.0.1:7\"]")
        }
      }
    }
  }

  @Test("a store that is full says so")
  func full() async throws {
    let worker = try authority.authority.configuration(
      for: .init(commonName: "w", ipAddresses: ["10.9.8.7"], services: ["*"]))
    try await withGrape(tls: try authority.host(), configure: { $0.servicesMax = 1 }) { grape in
      for (service, answer) in [("a", "1"), ("b", "\"ERR_GRAPE_STORE_FULL\""), ("a", "1")] {
        let announced = try await post(
          "{\"data\":[\"\(service)\",7,\"10.9.8.7\"]}", "/announce", to: grape.api, as: worker)
        #expect(announced.body == answer)
      }
    }
  }

  @Test("status, nodes, health and metrics")
  func pages() async throws {
    let (host, client) = (try authority.host(), try authority.client())
    try await withGrape(tls: host, configure: { $0.metrics = { "metrics here\n" } }) { first in
      for path in ["/healthz", "/healthz/live", "/healthz/ready"] {
        let health = try await post("", path, to: first.api, as: client)
        #expect(health.status == 200 && health.body.contains("\"live\":true"))
      }
      try await withGrape(tls: host, bootstrap: [Endpoint(first.dht)]) { second in
        try await waitUntilReady(second, as: client)
        let nodes = try await post("", "/nodes", to: second.api, as: client)
        #expect(nodes.body.contains("\"address\":\"\(first.dht)\""))
        let status = try await post("", "/status", to: second.api, as: client)
        let parsed = try JSONSerialization.jsonObject(with: Data(status.body.utf8))
        #expect((parsed as? [String: Any])?["contacts"] as? Int == 1)
      }
      let metrics = try await post("", "/metrics", to: first.api, as: client)
      #expect(metrics.body == "metrics here\n" && metrics.fields.contains("Content-Type"))
    }
    let dead = Endpoint(host: "127.0.0.1", port: 9)
    try await withGrape(tls: host, bootstrap: [dead]) { grape in
      let ready = try await post("", "/healthz/ready", to: grape.api, as: client)
      #expect(ready.status == 503 && ready.body == "{\"live\":true,\"ready\":false}")
      #expect(try await post("", "/healthz/live", to: grape.api, as: client).status == 200)
    }
  }

  @Test("BEP 42: a grape that is told its public address bears an identifier that fits it")
  func publicAddress() async throws {
    let (host, client) = (try authority.host(), try authority.client())
    let configure: @Sendable (inout GrapeConfiguration) -> Void = {
      $0.dhtPublicAddresses = ["203.0.113.5", "2001:db8::5"]
    }
    try await withGrape(tls: host, configure: configure) { grape in
      let status = try await post("", "/status", to: grape.api, as: client)
      let parsed = try JSONSerialization.jsonObject(with: Data(status.body.utf8))
      let text = try #require((parsed as? [String: Any])?["id"] as? String)
      let bytes = stride(from: 0, to: text.count, by: 2).compactMap { index in
        UInt8(text.dropFirst(index).prefix(2), radix: 16)
      }
      #expect(try #require(NodeID(bytes)).isAllowed(at: DHTHost(ip: 0xcb00_7105)))
    }
  }

  @Test(
    "public addresses that cannot be are refused at the start",
    arguments: [
      ["grape.example"], ["10.0.0.5"], ["127.0.0.1"], ["0.0.0.0"], ["100.64.0.1"], ["fe80::1"],
      ["203.0.113.5", "203.0.113.6"],
    ])
  func noPublicAddress(_ addresses: [String]) async throws {
    let host = try authority.host()
    let error = await #expect(throws: GrapeError.self) {
      try await withGrape(tls: host, configure: { $0.dhtPublicAddresses = addresses }) { _ in }
    }
    #expect(error?.description.contains(addresses.last ?? "?") == true)
  }

  @Test(
    "the address of the DHT is one of IPv4, and the other one of IPv6, or the grape does not start",
    arguments: [
      ("::", nil), ("::1", "::1"), ("localhost", nil), ("127.0.0.1", "127.0.0.1"),
    ] as [(String, String?)])
  func dhtAddresses(_ ipv4: String, _ ipv6: String?) async throws {
    let host = try authority.host()
    let error = await #expect(throws: GrapeError.self) {
      try await withGrape(
        tls: host,
        configure: { ($0.dhtHost, $0.dhtHostIPv6) = (ipv4, ipv6) }
      ) { _ in }
    }
    #expect(error?.description.contains("the DHT cannot be bound to") == true)
  }

  @Test("several listeners, one grape")
  func listeners() async throws {
    let client = try authority.worker("svc")
    try await withGrape(
      tls: try authority.host(),
      configure: { $0.additionalListeners = [("127.0.0.1", 0), ("::1", 0)] }
    ) { grape in
      #expect(grape.apis.count == 3 && Set(grape.apis).count == 3)
      _ = try await post("{\"data\":[\"svc\",1]}", "/announce", to: grape.apis[1], as: client)
      let found = try await post("{\"data\":\"svc\"}", "/lookup", to: grape.apis[0], as: client)
      #expect(found.body == "[\"127.0.0.1:1\"]")
    }
  }

  @Test("a watcher is told at once what there is, and then of each change")
  func watch() async throws {
    let (host, client) = (try authority.host(), try authority.worker("svc"))
    try await withGrape(tls: host) { first in
      try await withGrape(tls: host, bootstrap: [Endpoint(first.dht)]) { second in
        try await waitUntilReady(second, as: client)
        for grape in [second, first] {
          let watcher = try await Watcher.open(grape.api, as: client)
          try await watcher.send("{\"data\":\"svc\"}")
          #expect(try await watcher.next() == "{\"key\":\"svc\",\"peers\":[]}")
          _ = try await post("{\"data\":[\"svc\",1]}", "/announce", to: second.api, as: client)
          #expect(
            try await watcher.next() == "{\"key\":\"svc\",\"peers\":[\"127.0.0.1:1\"]}")
          _ = try await post("{\"data\":[\"svc\",1]}", "/withdraw", to: second.api, as: client)
          #expect(try await watcher.next() == "{\"key\":\"svc\",\"peers\":[]}")
          try await watcher.send("nothing")
          #expect(try await watcher.next() == "{\"error\":\"ERR_GRAPE_LOOKUP\"}")
          await watcher.close()
        }
      }
    }
  }
}

@Suite("A driver of the DHT", .timeLimit(.minutes(2)))
struct DHTDriverTests {
  @Test("P30 without a state folder nothing is collected for it", arguments: [true, false])
  func collected(_ keepsMemory: Bool) async throws {
    let loop = try EventLoopGroup.shared().next()
    let count = try await Self.collected(keepsMemory, on: loop)
    #expect(count == (keepsMemory ? 10 : 0))
  }

  private static func collected(
    _ keepsMemory: Bool, on loop: isolated EventLoop
  ) async throws -> Int {
    let driver = try DHTDriver(
      DHTConfiguration(), bindingTo: .loopback(port: 0), keepsMemory: keepsMemory)
    try driver.start(on: loop)
    defer { driver.stop(on: loop) }
    for number in 0..<10 {
      _ = await driver.put(
        DHTItem(value: Bencode("\(number)").encoded), compareAndSwap: nil,
        by: .now() + .seconds(5), on: loop)
    }
    return driver.takeMemory(isLast: true).items.count
  }

  @Test("who asks after the end is not answered, and keeps nothing alive")
  func stopped() async throws {
    let isGone = try await Self.isGone(on: try EventLoopGroup.shared().next())
    #expect(isGone)
  }

  private static func isGone(on loop: isolated EventLoop) async throws -> Bool {
    weak var left: DHTDriver?
    do {
      let driver = try DHTDriver(DHTConfiguration(), bindingTo: .loopback(port: 0))
      try driver.start(on: loop)
      driver.stop(on: loop)
      let result = await driver.lookUp([1], by: .now() + .milliseconds(20), on: loop)
      #expect(result == nil)
      left = driver
    }
    return left == nil
  }
}
