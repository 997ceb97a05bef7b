import GrenacheIO
import GrenacheTransport
import TestSupport
import Testing

@testable import Grenache

@Suite("Workers that take no connection, and none at all", .timeLimit(.minutes(1)))
struct WorkerRefusalTests {
  private let one: [UInt8] = [0x31]
  private let refusal = Array("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".utf8)

  private func client(_ grape: Endpoint) async throws -> PeerRPCClient {
    let link = try await Link(.insecurePlaintext(grapes: [grape]), logger: quietLogger)
    return await PeerRPCClient(link: link)
  }

  @Test("one that answers the opening handshake with 503 is named, with the status")
  func named() async throws {
    try await withHostileServer(.answers(refusal)) { busy in
      let client = try await client(busy)
      let error = await grenacheError {
        _ = try await client.requestRaw("rpc_test", one, to: busy)
      }
      #expect(error?.code == .workerUnreachable)
      #expect(error?.cause?.code == .upgradeRefused && error?.cause?.stage == .upgrade)
      #expect(error?.description.contains("503") == true, "\(error?.description ?? "")")
      #expect(error?.description.contains("\(busy)") == true)
      await client.close()
    }
  }

  @Test("another worker is called in its place, by each of many new clients")
  func next() async throws {
    let grape = try await FixedGrape(tls: nil)
    var configuration = PeerRPCServerConfiguration.insecurePlaintext(port: 0)
    configuration.drainTimeout = .zero
    let server = PeerRPCServer(configuration, services: [echo], logger: quietLogger)
    let worker = try await RunningTask { started in try await server.run { started($0) } }
    var refused = 0
    for _ in 0..<8 {
      try await withHostileServer(.answers(refusal)) { busy in
        grape.answer([busy, Endpoint(worker.place)])
        let client = try await client(grape.endpoint)
        let reply = try await client.requestRaw("rpc_test", one)
        #expect(reply.worker == Endpoint(worker.place))
        await client.close()
        refused += 1
      }
    }
    #expect(refused == 8)
    await worker.stop()
    await grape.stop()
  }

  @Test("all are withdrawn: serviceNotFound; the first call after an announcement is answered")
  func withdrawn() async throws {
    let authority = try TestAuthority()
    let fleet = try await WorkerFleet([echo, echo], authority: authority)
    _ = try await fleet.client.requestRaw("rpc_test", one)
    let workers = fleet.workers.map(\.endpoint)
    fleet.grape.answer([])
    for worker in fleet.workers { await worker.stop() }
    let error = await grenacheError { _ = try await fleet.client.requestRaw("rpc_test", one) }
    #expect(error?.code == .serviceNotFound, "\(String(describing: error))")
    let again = try await RunningWorker([echo], tls: try authority.worker("rpc_test"))
    #expect(!workers.contains(again.endpoint))
    fleet.grape.answer([again.endpoint])
    #expect(try await fleet.client.requestRaw("rpc_test", one).worker == again.endpoint)
    await again.stop()
    await fleet.stop()
  }
}
