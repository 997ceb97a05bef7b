import ArgumentParser
import Foundation
import Grenache
import Synchronization

/// The callers and subscribers of a soak.
final class FleetLoad: Sendable {
  /// What has come of it.
  struct Result: Sendable {
    var latencies = Latencies()
    var failures: [String] = []
    var heard: [HeardMessages] = []
    /// What was wrong with how members ended.
    var endings: [String] = []

    /// Prints it; whether nothing is lost.
    func report(_ published: Published) -> Bool {
      print("calls: \(latencies.count), lost \(failures.count); \(latencies.summary)")
      for failure in failures.prefix(5) { print("  \(failure)") }
      for ending in endings { print("  \(ending)") }
      print("messages published: \(published.all)")
      for (index, heard) in heard.enumerated() {
        print(
          "subscriber \(index): \(heard.messages) messages, \(heard.named) named by gaps, "
            + "\(heard.unknownGaps) gaps of unknown size, \(heard.doubled) doubled, "
            + "\(heard.lost.count) lost without a word; slowest found "
            + "\(Int(heard.slowestFind / .milliseconds(1))) ms after its first message")
        for lost in heard.lost.prefix(3) { print("  \(lost)") }
      }
      return failures.isEmpty && endings.isEmpty
        && heard.allSatisfy { $0.lost.isEmpty && $0.doubled == 0 && $0.messages > 0 }
    }
  }

  private let log: SoakLog
  private let published: Published
  private let links: [Link]
  private let client: PeerRPCClient
  private let subs: [PeerSub]
  private let heard: Mutex<[HeardMessages]>
  private let end = CallSchedule.End()
  private let isHurried = Mutex(false)
  private let tasks = Mutex<(calls: [Task<Result, Never>], others: [Task<Void, Never>])>(([], []))

  init(
    _ fleet: Fleet, _ published: Published, callers: Int, subscribers: Int, log: SoakLog
  ) async throws {
    var links = [try await fleet.link()]
    client = await PeerRPCClient(link: links[0])
    var subs: [PeerSub] = []
    for _ in 0..<subscribers {
      let link = try await fleet.link()
      links.append(link)
      subs.append(try await PeerSub(Member.key, link: link))
    }
    self.log = log
    self.published = published
    self.links = links
    self.subs = subs
    heard = Mutex(subs.indices.map { HeardMessages(published, isSlow: $0 == subs.count - 1) })
    let (calls, others) = (
      (0..<callers).map { _ in Task { await self.call() } },
      subs.indices.flatMap { index in
        [Task { await self.subs[index].run() }, Task { await self.listen(index) }]
      }
    )
    tasks.withLock { $0 = (calls, others) }
  }

  /// Waits until calls are answered and everybody has heard something.
  func warmUp() async throws {
    let deadline = ContinuousClock.now + .seconds(60)
    while heard.withLock({ $0.contains { $0.messages == 0 } }) {
      guard ContinuousClock.now < deadline else {
        print("not every subscriber hears something")
        throw ExitCode.failure
      }
      try await Task.sleep(for: .milliseconds(50))
    }
  }

  /// Ends the load, with everything said that was to be said.
  func end(_ fleet: Fleet) async throws -> Result {
    end.isNow()
    isHurried.withLock { $0 = true }
    var all = Result()
    // The one that did not keep up has to find out who is there.
    let live = published.live
    if try await !wait(within: .seconds(60), until: { $0.hasHeard(live) }) {
      all.endings.append("not every subscriber has caught up with those that publish")
    }
    // In order, so that they say how much it was.
    for index in 0..<fleet.count(.publisher) {
      if let fault = await fleet.member(.publisher, index)?.terminate().fault {
        all.endings.append("a publisher \(fault)")
      }
    }
    // As long as an address of one that was killed may stay announced: only then it is given up.
    _ = try await wait(within: .seconds(150), until: \.hasCaughtUp)
    let (calls, others) = tasks.withLock { $0 }
    for task in calls {
      let result = await task.value
      all.latencies.add(result.latencies)
      all.failures += result.failures
    }
    for task in others { task.cancel() }
    for task in others { await task.value }
    await client.close()
    for link in links { await link.close() }
    all.heard = heard.withLock { heard in
      for index in heard.indices { heard[index].end() }
      return heard
    }
    return all
  }

  /// Waits until it is so for every subscriber.
  ///
  /// - Returns: whether it came about.
  private func wait(
    within time: Duration, until isSo: (HeardMessages) -> Bool
  ) async throws -> Bool {
    let deadline = ContinuousClock.now + time
    while !heard.withLock({ $0.allSatisfy(isSo) }) {
      guard ContinuousClock.now < deadline else { return false }
      try await Task.sleep(for: .milliseconds(50))
    }
    return true
  }

  /// Each caller has one call under way and begins one each so often, by a schedule.
  static let callInterval = Duration.milliseconds(6)

  private func call() async -> Result {
    var result = Result()
    var number = 0
    var schedule = CallSchedule(every: Self.callInterval, until: end)
    while let start = await schedule.next() {
      number += 1
      let began = ContinuousClock.now
      let payload = Array("\(number)".utf8)
      do {
        let reply = try await client.requestRaw(Member.service, payload, options: .idempotent)
        if reply.result != payload { result.failures.append("a wrong reply") }
      } catch {
        result.failures.append("after \(ContinuousClock.now - start): \(error.code): \(error)")
      }
      let took = ContinuousClock.now - began
      if took > .milliseconds(200) { log("a call took \(took / .milliseconds(1)) ms", at: began) }
      result.latencies.add(ContinuousClock.now - start)
    }
    return result
  }

  /// The last subscriber does not keep up until the end.
  private func listen(_ index: Int) async {
    let isSlow = index == subs.count - 1
    for await event in subs[index] {
      heard.withLock { $0[index].hear(event) }
      if isSlow, !isHurried.withLock({ $0 }) { try? await Task.sleep(for: .milliseconds(10)) }
    }
  }
}
