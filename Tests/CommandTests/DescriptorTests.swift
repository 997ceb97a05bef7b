import Foundation
import Grenache
import GrenacheTransport
import TestSupport
import Testing

@Suite("The descriptors of commands", .timeLimit(.minutes(2)))
struct DescriptorTests {
  /// A worker that a shell starts within limits.
  private func worker(_ limits: String) async throws -> (RunningCommand, Endpoint) {
    let worker = try RunningCommand(
      "/bin/sh",
      [
        "-c", "\(limits) && exec \"$0\" \"$@\"", Programs.grenache, "serve", "rpc_test", "--port",
        "0", "--bind", "127.0.0.1", "--json", "--echo", "--no-announce", "--tls-dir",
        GeneratedCertificates.directory("worker"),
      ])
    let address = member("address", of: await worker.firstLine())
    return (worker, try #require(Endpoint(address), "\(worker.errors)"))
  }

  private func client() async throws -> PeerRPCClient {
    let nowhere = Endpoint(host: "127.0.0.1", port: 1)
    let tls = try GeneratedCertificates.configuration("client")
    return await PeerRPCClient(
      link: try await Link(LinkConfiguration(grapes: [nowhere], tls: tls), logger: quietLogger))
  }

  @Test("a command raises its limit to the hard one")
  func raised() async throws {
    let (worker, _) = try await worker("ulimit -Sn 100 && ulimit -Hn 1000")
    let limits = try String(
      contentsOfFile: "/proc/\(worker.processIdentifier)/limits", encoding: .utf8)
    let line = try #require(limits.split(separator: "\n").first { $0.hasPrefix("Max open files") })
    #expect(line.dropFirst(14).split(separator: " ").prefix(2) == ["1000", "1000"])
    #expect(await worker.terminate() == 0)
  }

  /// Connections that say nothing.
  private struct Crowd {
    private let descriptors: [Int32]

    init(_ count: Int, port: UInt16) throws {
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = port.bigEndian
      address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
      descriptors = try (0..<count).map { _ in
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        let isConnected = withUnsafePointer(to: &address) { address in
          address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
          }
        }
        try #require(descriptor >= 0 && isConnected)
        return descriptor
      }
    }

    func leave() { for descriptor in descriptors { close(descriptor) } }
  }

  private func descriptors(of worker: RunningCommand) throws -> Int {
    let folder = "/proc/\(worker.processIdentifier)/fd"
    return try FileManager.default.contentsOfDirectory(atPath: folder).count
  }

  /// The processor time of all its threads so far.
  private func processorSeconds(of worker: RunningCommand) throws -> Double {
    let stat = try String(
      contentsOfFile: "/proc/\(worker.processIdentifier)/stat", encoding: .utf8)
    // Behind the name, which may hold spaces: the 12th and 13th are user and system time.
    let fields = stat[try #require(stat.lastIndex(of: ")"))...].split(separator: " ")
    let ticks = fields.dropFirst(12).prefix(2).compactMap { Double($0) }
    return ticks.reduce(0, +) / Double(sysconf(Int32(_SC_CLK_TCK)))
  }

  @Test(
    "P2 out of them: who is connected is served, nothing spins, and newcomers come when some leave")
  func exhausted() async throws {
    let (worker, endpoint) = try await worker("ulimit -n 64")
    let established = try await client()
    _ = try await established.requestRaw("rpc_test", [0x31], to: endpoint)
    let crowd = try Crowd(200, port: endpoint.port)
    try await eventually("as many as there may be") { try descriptors(of: worker) >= 64 }
    let before = try processorSeconds(of: worker)
    let start = ContinuousClock.now
    for _ in 0..<20 {
      let reply = try await established.requestRaw("rpc_test", [0x32], to: endpoint)
      #expect(reply.result == [0x32])
      try await Task.sleep(for: .milliseconds(100))
    }
    let took = (ContinuousClock.now - start) / .seconds(1)
    let used = try processorSeconds(of: worker) - before
    #expect(try descriptors(of: worker) >= 60, "the crowd is still there")
    #expect(used < took / 8, "\(used) s in \(took) s")
    crowd.leave()
    let newcomer = try await client()
    try await eventually("a newcomer's call", within: .seconds(30)) {
      (try? await newcomer.requestRaw("rpc_test", [0x33], to: endpoint))?.result == [0x33]
    }
    await newcomer.close()
    await established.close()
    #expect(await worker.terminate() == 0, "\(worker.errors)")
  }
}
