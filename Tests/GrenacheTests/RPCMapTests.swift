import GrenacheTransport
import Synchronization
import TestSupport
import Testing

@testable import Grenache

@Suite("Calls of many workers at once", .timeLimit(.minutes(1)))
struct MapTests {
  let one = Array("1".utf8)

  @Test("map: every worker's result or error, or those of a limited number")
  func map() async throws {
    let failing = RPCService(raw: "rpc_test") { _ in throw RPCFault("no") }
    let fleet = try await WorkerFleet([echo, failing, echo], authority: try TestAuthority())
    let dead = Endpoint(host: "127.0.0.1", port: 1)
    fleet.grape.answer(fleet.workers.map(\.endpoint) + [dead])
    let results = try await fleet.client.mapRaw("rpc_test", one)
    #expect(Set(results.map(\.worker)) == Set(fleet.workers.map(\.endpoint) + [dead]))
    for each in results {
      switch each.result {
      case .success(let reply): #expect(reply.result == one && reply.worker == each.worker)
      case .failure(let error):
        let isDead = each.worker == dead
        #expect(error.code == (isDead ? .workerUnreachable : .remoteError))
      }
    }
    #expect(try await fleet.client.mapRaw("rpc_test", one, limit: 2).count == 2)
    await fleet.stop()
  }

  @Test(
    "map calls as many workers at the same time as its limit, and no more", arguments: [1, 2, 5])
  func concurrency(_ limit: Int) async throws {
    let now = Mutex(0)
    let most = Mutex(0)
    let begun = Tally()
    let full = min(limit, 4)
    let service = RPCService(raw: "rpc_test") { request in
      let count = now.withLock { value in
        value += 1
        return value
      }
      most.withLock { $0 = max($0, count) }
      await begun.add()
      await begun.reaches(full)
      now.withLock { $0 -= 1 }
      return request.payload
    }
    let fleet = try await WorkerFleet(
      [service, service, service, service], authority: try TestAuthority(),
      configure: { $0.mapConcurrencyMax = limit })
    let results = try await fleet.client.mapRaw("rpc_test", [0x31])
    #expect(Set(results.map(\.worker)) == Set(fleet.workers.map(\.endpoint)))
    for each in results { #expect(try each.result.get().result == [0x31]) }
    #expect(most.withLock { $0 } == full)
    await fleet.stop()
  }
}
