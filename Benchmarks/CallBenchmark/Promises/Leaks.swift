import Foundation
import Grenache
import GrenacheTransport

/// P40: a million calls and a hundred thousand connections leave nothing behind.
enum Leaks {
  static func measure() async throws -> Bool {
    let fleet = try Fleet()
    do {
      let worker = try await fleet.add(.worker)
      let link = try await fleet.link(to: worker.endpoint)
      // What stays allocated for good is there after a tenth.
      try await calls(100_000, link, worker.endpoint)
      try await connections(10_000, link, worker.endpoint)
      let (server, client) = (try await settled(worker), ProcessUsage())
      let start = ContinuousClock.now
      try await calls(1_000_000, link, worker.endpoint)
      try await connections(100_000, link, worker.endpoint)
      let took = (ContinuousClock.now - start) / .seconds(1)
      let (serverAfter, clientAfter) = (try await settled(worker), ProcessUsage())
      Promises.show(String(format: "P40 10^6 calls and 10^5 connections in %.0f s", took))
      let isKept = [
        show("worker", server, serverAfter), show("client", client, clientAfter),
      ].allSatisfy(\.self)
      await fleet.end()
      return isKept
    } catch {
      await fleet.end()
      throw error
    }
  }

  private static func settled(_ worker: MemberProcess) async throws -> ProcessUsage {
    try await Task.sleep(for: .seconds(1))
    return worker.usage
  }

  private static func show(_ name: String, _ before: ProcessUsage, _ after: ProcessUsage) -> Bool {
    let change =
      Double(after.residentBytes - before.residentBytes) / Double(before.residentBytes) * 100
    Promises.show(
      String(
        format: "    %@: descriptors %d, then %d; %.1f MiB resident, then %.1f (%+.1f %%)", name,
        before.descriptors, after.descriptors, Double(before.residentBytes) / 1_048_576,
        Double(after.residentBytes) / 1_048_576, change))
    return after.descriptors <= before.descriptors && change <= 5
  }

  private static func calls(_ count: Int, _ link: Link, _ worker: Endpoint) async throws {
    let client = await PeerRPCClient(link: link)
    try await withThrowingTaskGroup { group in
      for _ in 0..<64 {
        group.addTask {
          for _ in 0..<count / 64 {
            _ = try await client.requestRaw(Member.service, [0x31], to: worker)
          }
        }
      }
      try await group.waitForAll()
    }
    await client.close()
  }

  private static func connections(_ count: Int, _ link: Link, _ worker: Endpoint) async throws {
    try await withThrowingTaskGroup { group in
      for _ in 0..<16 {
        group.addTask {
          for _ in 0..<count / 16 {
            let client = await PeerRPCClient(link: link)
            _ = try await client.requestRaw(Member.service, [0x31], to: worker)
            await client.close()
          }
        }
      }
      try await group.waitForAll()
    }
  }
}
