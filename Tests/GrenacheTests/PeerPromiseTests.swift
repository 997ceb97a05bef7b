import Foundation
import Grenache
import GrenacheGrape
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@testable import Grenache

@Suite("Promises of peers, smaller than in `make promises`", .timeLimit(.minutes(2)))
struct PeerPromiseTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  @Test("P37 many subscribers come back to a publisher that starts again, within 10 s")
  func comebacks() async throws {
    let count = 60
    let configuration = PeerPubConfiguration(port: 0, tls: try authority.worker("news"))
    let first = try await RunningPub("news", configuration)
    let grape = try await FixedGrape(tls: try authority.host())
    grape.answer([first.endpoint])
    let link = try await Link(
      LinkConfiguration(grapes: [grape.endpoint], tls: try authority.client()),
      logger: quietLogger)
    var following: [Task<Void, Never>] = []
    for _ in 0..<count {
      let sub = try await PeerSub("news", link: link)
      following.append(Task { await sub.run() })
    }
    try await first.subscribers(count)
    var again = configuration
    again.port = first.endpoint.port
    await first.stop()
    let second = try await RunningPub("news", again)
    let start = ContinuousClock.now
    try await second.subscribers(count)
    #expect(ContinuousClock.now - start < .seconds(10))
    for task in following { task.cancel() }
    for task in following { await task.value }
    await second.stop()
    await grape.stop()
  }

  @Test("P37 pauses before coming back are drawn by chance, and grow")
  func jitter() {
    var generator = SeededGenerator(seed: 1)
    var ends: Set<MonotonicTime> = []
    let now = MonotonicTime(nanoseconds: 1)
    for _ in 0..<100 {
      var standing = WorkerStanding(sitOutTime: .milliseconds(200))
      standing.note(.connectionLost, isSent: true, at: now, using: &generator)
      #expect(!standing.isReady(at: now + .milliseconds(149)))
      #expect(standing.isReady(at: now + .milliseconds(251)))
      ends.insert(standing.sitsOutUntil)
    }
    #expect(ends.count > 90)
    var standing = WorkerStanding(sitOutTime: .milliseconds(200))
    var time = now
    for _ in 0..<20 {
      standing.note(.workerUnreachable, isSent: true, at: time, using: &generator)
      time = standing.sitsOutUntil
    }
    standing.note(.workerUnreachable, isSent: true, at: time, using: &generator)
    #expect(standing.sitsOutUntil - time >= .seconds(22))
    #expect(standing.sitsOutUntil - time <= .seconds(38))
  }

  /// `make promises` measures p99, on a quiet machine; here the median, with room for a busy one.
  @Test("P38 calls are answered while a stream of 100 MiB goes on, and wait for no part of it")
  func streamBesideCalls() async throws {
    let bytes = RPCService(stream: "bytes") { _, stream in
      var count = 0
      for try await part in stream.incoming { count += part.count }
      try await stream.write(Array("\(count)".utf8))
    }
    try await withServer([echo, bytes], tls: try authority.worker("*")) { worker in
      let client = try await directClient(try authority.client())
      let answered = Tally()
      let times = Mutex<[Duration]>([])
      @Sendable func call() async throws {
        let start = ContinuousClock.now
        _ = try await client.requestRaw("rpc_test", [0x31], to: worker)
        times.withLock { $0.append(ContinuousClock.now - start) }
        await answered.add()
      }
      for _ in 0..<100 { try await call() }
      let alone = times.withLock { $0.sorted()[50] }
      times.withLock { $0 = [] }
      let calling = Task { while !Task.isCancelled { try await call() } }
      let part = [UInt8](repeating: 0x78, count: 1 << 20)
      let count = try await client.stream("bytes", to: worker, within: .seconds(60)) { stream in
        for number in 1...100 {
          try await stream.write(part)
          // The stream waits for calls, not they for its end.
          if number % 20 == 0 { await answered.reaches(await answered.value + 5) }
        }
        await stream.finish()
        var answer: [UInt8] = []
        for try await some in try await stream.incoming() { answer += some }
        return String(decoding: answer, as: UTF8.self)
      }
      #expect(count == "\(100 << 20)")
      calling.cancel()
      _ = try? await calling.value
      let beside = times.withLock { $0.sorted() }
      #expect(beside.count >= 25)
      let most = alone * 5 + Duration.milliseconds(100)
      #expect(beside[beside.count / 2] < most)
    }
  }

  @Test("P40 connections that come and go leave no descriptor behind")
  func descriptors() async throws {
    try await withServer([echo], tls: try authority.worker("rpc_test")) { worker in
      let tls = try authority.client()
      let nowhere = Endpoint(host: "127.0.0.1", port: 1)
      let link = try await Link(
        LinkConfiguration(grapes: [nowhere], tls: tls), logger: quietLogger)
      func round(_ count: Int) async throws {
        for _ in 0..<count {
          let client = await PeerRPCClient(link: link)
          for _ in 0..<5 { _ = try await client.requestRaw("rpc_test", [0x31], to: worker) }
          await client.close()
        }
      }
      try await round(5)
      let before = try await Self.settledDescriptors(atMost: 0)
      try await round(100)
      #expect(try await Self.settledDescriptors(atMost: before) <= before)
    }
  }

  @Test("P40 connections that are being made when their client is closed leave none behind")
  func unfinishedConnections() async throws {
    let fleet = try await WorkerFleet([echo, echo], authority: authority)
    let link = try await Link(
      LinkConfiguration(grapes: [fleet.grape.endpoint], tls: try authority.client()),
      logger: quietLogger)
    // The second call goes to the worker that is connected, and has the other one connected to.
    func round(_ count: Int) async throws {
      for _ in 0..<count {
        let client = await PeerRPCClient(link: link)
        for _ in 0..<2 { _ = try await client.requestRaw("rpc_test", [0x31]) }
        await client.close()
      }
    }
    _ = try await link.lookup("rpc_test")
    let before = try await Self.settledDescriptors(atMost: 0)
    try await round(20)
    #expect(try await Self.settledDescriptors(atMost: before) <= before)
    await fleet.stop()
  }

  /// The sockets of this process, once they are `most` or have had ten seconds for it.
  private static func settledDescriptors(atMost most: Int) async throws -> Int {
    let deadline = ContinuousClock.now + (most == 0 ? .seconds(1) : .seconds(10))
    while true {
      let names = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")
      let sockets = names.filter { name in
        let target = try? FileManager.default.destinationOfSymbolicLink(
          atPath: "/proc/self/fd/\(name)")
        return target?.hasPrefix("socket:") == true
      }
      if sockets.count <= most || ContinuousClock.now > deadline { return sockets.count }
      try await Task.sleep(for: .milliseconds(20))
    }
  }
}
