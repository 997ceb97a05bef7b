import ArgumentParser
import Foundation
import Glibc
import GrenacheTLS
import GrenacheTransport

/// Certificates of an authority of its own, gone at the end.
final class BenchmarkCertificates {
  let grape: String
  /// Those of somebody who may announce and look up everything of `bench:`.
  let client: TLSConfiguration
  private let folder: String

  init() throws {
    folder = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString).path
    grape = "\(folder)/grape"
    let authority = try CertificateAuthority()
    try authority.write(
      .init(commonName: "grape", dnsNames: ["localhost"], ipAddresses: ["127.0.0.1"]),
      toDirectory: grape)
    client = try authority.configuration(
      for: .init(commonName: "client", services: ["bench:*"]))
  }

  deinit { try? FileManager.default.removeItem(atPath: folder) }
}

/// Grapes in another process, whose processor time can be read.
final class GrapeProcess {
  /// The UDP port of the first grape.
  let dht: UInt16
  let apis: [Endpoint]
  private let process = Process()
  private let input = Pipe()

  init(_ certificates: String, count: Int, loops: Int = 1, bootstrap: UInt16? = nil) throws {
    process.executableURL = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
    process.arguments =
      ["grapes", "--certificates", certificates, "--count", "\(count)", "--loops", "\(loops)"]
      + (bootstrap.map { ["--bootstrap", "\($0)"] } ?? [])
    let output = Pipe()
    process.standardInput = input
    process.standardOutput = output
    try process.run()
    let line = String(decoding: output.fileHandleForReading.availableData, as: UTF8.self)
    let ports = line.split { !$0.isNumber }.compactMap { UInt16($0) }
    guard ports.count == count + 1 else { throw ExitCode.failure }
    dht = ports[0]
    apis = ports.dropFirst().map { Endpoint(host: "127.0.0.1", port: $0) }
  }

  deinit {
    process.terminate()
    process.waitUntilExit()
  }

  /// User and system time of all threads so far.
  var cpuSeconds: Double {
    var clock = clockid_t()
    var time = timespec()
    guard clock_getcpuclockid(process.processIdentifier, &clock) == 0,
      clock_gettime(clock, &time) == 0
    else { return 0 }
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }
}
