import Foundation
import TestSupport
import Testing

@Suite("P20 who is believed by an address alone: the commands", .timeLimit(.minutes(2)))
struct ProofByAddressTests {
  private let grape: RunningGrape
  private let options: [String]

  /// A grape that names, as a worker and publisher of `rpc_test`, whoever is at a port.
  init() async throws {
    grape = try await RunningGrape()
    options = ["--grape", grape.api, "--tls-dir"]
  }

  /// Starts a command whose certificate covers its address and not the service, and announces it; returns
  /// where it is, too.
  private func start(_ arguments: String...) async throws -> (RunningCommand, String) {
    let impostor = try RunningCommand(
      Programs.grenache,
      arguments + ["--port", "0", "--json", "--no-announce", "--tls-dir"]
        + [GeneratedCertificates.directory("grape")])
    let port = port(of: member("address", of: await impostor.firstLine()))
    let announced = try await run(
      Programs.grenache,
      ["announce", "rpc_test,\(port)"] + options
        + [GeneratedCertificates.directory("worker")])
    #expect(announced.status == 0, "\(announced.errors)")
    return (impostor, "127.0.0.1:\(port)")
  }

  private func client(_ arguments: [String]) async throws -> Ended {
    try await run(
      Programs.grenache, arguments + options + [GeneratedCertificates.directory("client")])
  }

  @Test("call, map, stream and bench believe a worker only by a long name, loudly")
  func workers() async throws {
    let (worker, _) = try await start("serve", "rpc_test", "--echo")
    for (arguments, failure) in [
      (["call", "rpc_test", "1"], 77), (["map", "rpc_test", "1"], 70),
      (["stream", "rpc_test"], 77),
      (["bench", "rpc_test", "1", "--seconds", "0.1", "--in-flight", "1", "--json"], 77),
    ] as [([String], Int32)] {
      let refused = try await client(arguments)
      #expect(refused.status == failure, "\(arguments[0]): \(refused.errors)")
      #expect(!refused.errors.contains("believed by their address"))
      let accepted = try await client(arguments + ["--insecure-accept-workers-by-address"])
      #expect(accepted.status == 0, "\(arguments[0]): \(accepted.errors)")
      #expect(accepted.errors.contains("believed by their address"))
    }
    #expect(await worker.terminate() == 0)
    #expect(await grape.terminate() == 0)
  }

  @Test("tls probe --service believes whom a call would that a lookup has led there")
  func probe() async throws {
    let (worker, address) = try await start("serve", "rpc_test", "--echo")
    let (probe, service) = (["tls", "probe", address], ["--service", "rpc_test"])
    let tls = ["--tls-dir", try GeneratedCertificates.directory("client")]
    let byAddress = ["--insecure-accept-workers-by-address"]
    let refused = try await run(Programs.grenache, probe + service + tls)
    #expect(refused.status == 77, "\(refused.errors)")
    #expect(refused.errors.contains("expected URI:grenache:rpc_test,"), "\(refused.errors)")
    let accepted = try await run(Programs.grenache, probe + service + byAddress + tls)
    #expect(accepted.status == 0, "\(accepted.errors)")
    #expect(accepted.errors.contains("believed by its address"), "\(accepted.errors)")
    let host = try await run(Programs.grenache, probe + tls)
    #expect(host.status == 0 && host.errors.isEmpty, "\(host.errors)")
    #expect(try await run(Programs.grenache, probe + byAddress + tls).status == 64)
    #expect(await worker.terminate() == 0)
    #expect(await grape.terminate() == 0)
  }

  @Test("sub believes a publisher only by a long name, loudly")
  func publishers() async throws {
    let (publisher, _) = try await start("pub", "rpc_test", "--wait-for", "1")
    publisher.write("one\n")
    let heard = try await client(
      ["sub", "rpc_test", "--count", "1", "--insecure-accept-publishers-by-address"])
    #expect(heard.output == "one", "\(heard.errors)")
    #expect(heard.errors.contains("believed by their address"))
    _ = await publisher.terminate()
    #expect(await grape.terminate() == 0)
  }
}
