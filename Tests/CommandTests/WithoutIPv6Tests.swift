import Foundation
import TestSupport
import Testing

/// A program that does without.
private enum WithoutIPv6 {
  static let script = "\(Programs.interop)/without_ipv6.py"

  /// Whether this system lets somebody do so.
  static let isPossible: Bool = {
    guard Programs.hasPython else { return false }
    let process = Process()
    process.executableURL = URL(filePath: Programs.python)
    process.arguments = [script, "/bin/true"]
    process.standardError = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return false }
    process.waitUntilExit()
    return process.terminationStatus == 0
  }()
}

@Suite("A system without IPv6", .enabled(if: WithoutIPv6.isPossible), .timeLimit(.minutes(1)))
struct WithoutIPv6Tests {
  private func start(_ command: [String], as certificate: String) throws -> RunningCommand {
    try RunningCommand(
      Programs.python,
      [WithoutIPv6.script] + command
        + ["--json", "--tls-dir", GeneratedCertificates.directory(certificate)])
  }

  @Test("what listens at all addresses, as by default, listens at those of IPv4")
  func all() async throws {
    let (grape, grenache) = (Programs.grape, Programs.grenache)
    for (command, certificate, place) in [
      ([grape, "--dp", "0", "--aph", "0", "--bn", ""], "grape", "api"),
      ([grenache, "serve", "rpc_test", "-p", "0", "--echo", "--no-announce"], "worker", "address"),
      ([grenache, "pub", "rpc_test", "-p", "0", "--no-announce"], "worker", "address"),
    ] {
      let server = try start(command, as: certificate)
      let address = member(place, of: await server.firstLine())
      #expect(address.hasPrefix("0.0.0.0:"), "\(server.errors)")
      let expected = certificate == "worker" ? ["--service", "rpc_test"] : []
      let probe = try await run(
        Programs.grenache,
        ["tls", "probe", "127.0.0.1:\(port(of: address))", "--tls-dir"]
          + [GeneratedCertificates.directory("client")] + expected)
      #expect(probe.status == 0, "\(probe.errors)")
      #expect(await server.terminate() == 0)
    }
  }

  @Test("an address of IPv6 that is named is not to be had, and nothing is put in its place")
  func named() async throws {
    let serve = [Programs.grenache, "serve", "rpc_test", "-p", "0", "--echo", "--no-announce"]
    let ended = await (try start(serve + ["--bind", "::1"], as: "worker")).end()
    #expect(ended.status == 70 && ended.output.isEmpty, "\(ended.output)")
    #expect(ended.errors.contains("not supported by protocol"), "\(ended.errors)")
  }
}
