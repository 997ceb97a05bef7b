import GrenacheDHT
import GrenacheFraming
import GrenacheIO
import GrenacheTLS
import Logging
import TestSupport
import Testing

@testable import GrenacheGrape

@Suite("P30 One caller cannot have all of a grape's queries", .timeLimit(.minutes(2)))
struct RequestLimitTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private func caller(_ number: UInt32) -> GrapeCaller {
    .address(DHTHost(ip: 0x0a00_0000 + number))
  }

  private func refusal(_ requests: RequestsInFlight, _ caller: GrapeCaller) -> RequestsInFlight
    .Refusal?
  {
    do throws(RequestsInFlight.Refusal) {
      _ = try requests.enter(caller)
      return nil
    } catch {
      return error
    }
  }

  @Test("a caller up to its limit and not one more; others have theirs; what is over makes room")
  func perCaller() throws {
    let requests = RequestsInFlight(max: 100, perCallerMax: 3)
    var places = try (0..<3).map { _ in try requests.enter(caller(1)) }
    #expect(refusal(requests, caller(1)) == .callerLimit)
    #expect(refusal(requests, caller(2)) == nil)
    #expect(requests.count == 3)
    places.removeLast()
    #expect(refusal(requests, caller(1)) == nil && requests.count == 2)
    places = []
    #expect(requests.count == 0)
  }

  @Test("nobody has more than are left: two greedy ones have a third each, and others find room")
  func fair() throws {
    let requests = RequestsInFlight(max: 90, perCallerMax: 100)
    var places: [RequestsInFlight.Place] = []
    func take(_ number: UInt32) throws -> Int {
      var count = 0
      while let place = try? requests.enter(caller(number)) {
        places.append(place)
        count += 1
      }
      return count
    }
    #expect(try take(1) == 45)
    #expect(try take(2) == 23)
    #expect(refusal(requests, caller(1)) == .overloaded)
    for number in 3..<6 as Range<UInt32> { #expect(refusal(requests, caller(number)) == nil) }
    // Each takes half of what is left, to the last one.
    #expect(try (3..<6 as Range<UInt32>).map { try take($0) } == [11, 6, 3])
    #expect(requests.count == 88)
    #expect(try (6..<9 as Range<UInt32>).map { try take($0) } == [1, 1, 0])
    #expect(requests.count == 90)
  }

  @Test("loopback without a certificate is limited by the total alone")
  func loopback() throws {
    let requests = RequestsInFlight(max: 10, perCallerMax: 1)
    let local = GrapeCaller(nil, at: .loopback(port: 1))
    let places = try (0..<5).map { _ in try requests.enter(local) }
    #expect(places.count == 5 && refusal(requests, local) == .overloaded)
  }

  @Test(
    "at the limit one more is refused, logged once and counted; others and what is known are not")
  func api() async throws {
    let (one, other) = (try authority.worker("svc:*"), try authority.client())
    var log = ErrorLog()
    log.logLevel = .notice
    let lines = log
    try await ScriptedPair.with { nodes in
      let bootstrap = [nodes.quick, nodes.slow].map { Endpoint(SocketAddress($0.address)) }
      try await withGrape(
        tls: try authority.host(), bootstrap: bootstrap,
        logger: Logger(label: "test") { _ in lines },
        configure: {
          $0.dht = nodes.configuration
          $0.requestsPerCallerMax = 3
          $0.requestTimeout = .seconds(30)
        }
      ) { grape in
        let (kept, others) = (
          try await KeptClient(one, grape.api), try await KeptClient(other, grape.api)
        )
        try await eventually { try await kept.status("contacts") == 2 }
        // The slow node keeps these waiting.
        async let first = kept.post("{\"data\":\"svc\"}", "/lookup")
        async let second = kept.post("{\"data\":[\"svc:1\",1]}", "/announce")
        async let third = kept.post("{\"data\":\"svc:2\"}", "/lookup")
        try await eventually { await nodes.slow.held().count == 3 }
        for (body, path) in [
          ("{\"data\":\"svc\"}", "/lookup"), ("{\"data\":[\"svc:3\",1]}", "/announce"),
          ("{\"data\":[\"svc:3\",1]}", "/withdraw"), ("{\"data\":\"v\"}", "/put"),
          ("{\"data\":\"\(target("v"))\"}", "/get"),
        ] {
          let refused = try await kept.post(body, path)
          #expect(refused.status == 429 && refused.body == "ERR_GRAPE_CALLER_LIMIT", "\(path)")
        }
        let stream = try await LineStream(one, grape.api)
        #expect(try await stream.ask("{\"data\":\"svc\"}").status.code == 429)
        #expect(try await stream.next() == "ERR_GRAPE_CALLER_LIMIT")
        async let fourth = others.post("{\"data\":\"svc:4\"}", "/lookup")
        try await eventually { await nodes.slow.held().count == 4 }
        await nodes.slow.release()
        #expect(try await first.body.contains("127.0.0.1:11"))
        #expect(try await second.body == "2")
        #expect(try await third.status == 200)
        #expect(try await fourth.body == "[]")
        #expect(try await kept.post("{\"data\":\"svc:5\"}", "/lookup").status == 200)
      }
      Logger(label: "test") { _ in lines }.notice("the test is over")
      var count = 0
      for await line in lines.messages {
        if line == "refused: too many requests are under way" { count += 1 }
        if line == "the test is over" { break }
      }
      #expect(count == 1)
    }
  }
}
