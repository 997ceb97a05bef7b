import Foundation
import Grenache

/// Whether calls end when they should, and handlers with them.
enum Deadlines {
  /// P32: calls that are never answered end at their deadline.
  static func kept() async throws -> Bool {
    let fleet = try Fleet()
    let worker = try await LocalWorker(
      [
        RPCService(raw: Member.service) { request in
          try await Task.sleep(for: .seconds(30))
          return request.payload
        }
      ], fleet.authority)
    let client = await PeerRPCClient(link: try await fleet.link(to: worker.endpoint))
    let late = Shared(Latencies())
    let early = Shared(0)
    await withTaskGroup { group in
      for _ in 0..<20 {
        group.addTask {
          for _ in 0..<100 {
            let time = Duration.milliseconds(Int.random(in: 20...120))
            let start = ContinuousClock.now
            _ = try? await client.requestRaw(
              Member.service, [0x31], to: worker.endpoint, within: time)
            let error = (ContinuousClock.now - start) - time
            if error < .zero { early.withLock { $0 += 1 } }
            late.withLock { $0.add(max(error, .zero)) }
          }
        }
      }
    }
    await client.close()
    await worker.stop()
    let (summary, longest) = late.withLock { ($0.summary, $0.longest) }
    Promises.show(
      "P32 2000 deadlines, later than said: \(summary); before: \(early.withLock { $0 })")
    return longest <= .milliseconds(20) && early.withLock { $0 } == 0
  }

  /// P33: a cancelled call cancels its handler, and nothing of it stays.
  static func cancellation() async throws -> Bool {
    let fleet = try Fleet()
    let begun = Shared<[Int: CheckedContinuation<Void, Never>]>([:])
    let cancelled = Shared<[Int: CheckedContinuation<ContinuousClock.Instant, Never>]>([:])
    let waiting = RPCService(raw: Member.service) { request in
      let number: Int = try request.decode()
      begun.withLock { $0.removeValue(forKey: number) }?.resume()
      // Not a sleep: a cancelled one keeps its timer, and memory for it, until it would have ended.
      for await _ in AsyncStream<Never>.makeStream().stream {}
      let now = ContinuousClock.now
      cancelled.withLock { $0.removeValue(forKey: number) }?.resume(returning: now)
      return request.payload
    }
    let echo = RPCService(raw: "echo") { $0.payload }
    let worker = try await LocalWorker([waiting, echo], fleet.authority)
    let client = await PeerRPCClient(link: try await fleet.link(to: worker.endpoint))
    var roundTrips = Latencies()
    for _ in 0..<1_000 {
      let start = ContinuousClock.now
      _ = try await client.requestRaw("echo", [0x31], to: worker.endpoint)
      roundTrips.add(ContinuousClock.now - start)
    }
    var reached = Latencies()
    for number in 0..<1_000 {
      let call = Shared<Task<Void, Never>?>(nil)
      await withCheckedContinuation { continuation in
        begun.withLock { $0[number] = continuation }
        let task = Task {
          _ = try? await client.requestRaw(
            Member.service, Array("\(number)".utf8), to: worker.endpoint)
        }
        call.withLock { $0 = task }
      }
      let start = ContinuousClock.now
      let end = await withCheckedContinuation { continuation in
        cancelled.withLock { $0[number] = continuation }
        call.withLock { $0?.cancel() }
      }
      reached.add(end - start)
    }
    // What stays allocated for good is there after a first time.
    await cancelMany(client, worker)
    let before = ProcessUsage()
    await cancelMany(client, worker)
    let after = ProcessUsage()
    await client.close()
    await worker.stop()
    let limit = roundTrips.percentile(99) + 10
    Promises.show("P33 a call and its reply: \(roundTrips.summary)")
    Promises.show("    from cancelling to the handler: \(reached.summary)")
    let growth = after.residentBytes - before.residentBytes
    Promises.show(
      "    100000 cancelled: \(waiting.callsInFlight) still run, memory \(growth / 1024) KiB, "
        + "descriptors \(after.descriptors - before.descriptors)")
    return reached.percentile(99) <= limit && waiting.callsInFlight == 0
      && growth < max(before.residentBytes / 20, 4 << 20)
      && after.descriptors <= before.descriptors
  }

  /// Cancels 100,000 calls.
  private static func cancelMany(_ client: PeerRPCClient, _ worker: LocalWorker) async {
    await withTaskGroup { group in
      for _ in 0..<100 {
        group.addTask {
          for _ in 0..<1_000 {
            let call = Task {
              _ = try? await client.requestRaw(Member.service, [0x39], to: worker.endpoint)
            }
            if Bool.random() { await Task.yield() }
            call.cancel()
            await call.value
          }
        }
      }
    }
    // The last cancellations are still on their way.
    _ = try? await client.requestRaw("echo", [0x31], to: worker.endpoint)
    try? await Task.sleep(for: .milliseconds(200))
  }
}
