import TestSupport

/// A grape that runs as a process, and how other commands reach it.
struct RunningGrape {
  let command: RunningCommand
  /// Its API and its DHT, as host:port.
  let api: String
  let dht: String
  private let isPlain: Bool

  /// A grape with mutual TLS on loopback, or in the clear.
  init(
    bootstrap: String = "", tls: String? = nil, isPlain: Bool = false, options: [String] = []
  ) async throws {
    self.isPlain = isPlain
    let security =
      isPlain
      ? ["--insecure-plaintext"]
      : ["-b", "127.0.0.1", "--tls-dir", try tls ?? GeneratedCertificates.directory("grape")]
    command = try RunningCommand(
      Programs.grape,
      ["--dp", "0", "--aph", "0", "--bn", bootstrap, "--json"] + security + options)
    let line = await command.firstLine()
    api = member("api", of: line)
    dht = "127.0.0.1:" + port(of: member("dht", of: line))
  }

  /// What makes a command speak with this grape, as the owner of a generated certificate.
  func options(_ certificate: String = "client") throws -> [String] {
    ["--grape", api] + (try security(certificate))
  }

  /// The same without the grape.
  func security(_ certificate: String = "client") throws -> [String] {
    isPlain
      ? ["--insecure-plaintext"] : ["--tls-dir", try GeneratedCertificates.directory(certificate)]
  }

  /// Starts `grenache serve` or `grenache pub`; returns it and where it listens.
  func start(
    _ arguments: [String], as certificate: String = "worker"
  ) async throws -> (RunningCommand, String) {
    let command = try RunningCommand(
      Programs.grenache, arguments + ["--port", "0", "--json"] + (try options(certificate)))
    let address = member("address", of: await command.firstLine())
    return (command, "127.0.0.1:" + port(of: address))
  }

  /// Runs `grenache` to its end.
  func grenache(_ arguments: String..., input: String? = nil) async throws -> Ended {
    let command = try RunningCommand(Programs.grenache, arguments + (try options()))
    if let input { command.write(input) }
    command.closeInput()
    return await command.end()
  }

  /// Waits until so many workers are looked up.
  func announced(_ count: Int, _ service: String) async throws {
    try await eventually("\(count) of \(service)") {
      try await grenache("lookup", "--all", service).output.split(separator: " ").count >= count
    }
  }

  func terminate() async -> Int32 { await command.terminate() }
}
