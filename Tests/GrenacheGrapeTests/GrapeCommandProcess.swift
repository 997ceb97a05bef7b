import Foundation
import GrenacheFraming
import GrenacheGrape
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import TestSupport

/// The `grape` command in a process of its own, which may be killed; ended with the last reference.
final class GrapeCommandProcess: Sendable {
  let api: SocketAddress
  let dht: SocketAddress
  private let process: ChildProcess
  private let input: Pipe

  /// Starts it beside the test's own program and waits until it listens.
  ///
  /// The kernel chooses the ports, unless it is to be one again that was killed.
  static func start(
    certificates: String, state: String, apiPort: UInt16 = 0, dhtPort: UInt16 = 0,
    bootstrap: String = ""
  ) async throws -> GrapeCommandProcess {
    let process = Process()
    process.executableURL = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
      .deletingLastPathComponent().appending(path: "grape")
    process.arguments = [
      "--dp", "\(dhtPort)", "--aph", "\(apiPort)", "--bn", bootstrap, "-b", "127.0.0.1", "--json",
      "--private-network", "--tls-dir", certificates, "--state-dir", state, "--log-level", "error",
    ]
    let (input, output) = (Pipe(), Pipe())
    process.standardInput = input
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    try process.run()
    let child = ChildProcess(process)
    let line = await firstLine(output.fileHandleForReading, of: child)
    guard let members = try? JSONDecoder().decode([String: String].self, from: Data(line.utf8)),
      let api = Endpoint(members["api"] ?? ""), let dht = Endpoint(members["dht"] ?? ""),
      let apiAddress = SocketAddress(ip: "127.0.0.1", port: api.port),
      let dhtAddress = SocketAddress(ip: "127.0.0.1", port: dht.port)
    else {
      child.kill()
      throw TimedOut()
    }
    return GrapeCommandProcess(child, input, apiAddress, dhtAddress)
  }

  private init(
    _ process: ChildProcess, _ input: Pipe, _ api: SocketAddress, _ dht: SocketAddress
  ) {
    self.process = process
    self.input = input
    self.api = api
    self.dht = dht
  }

  deinit { kill() }

  /// Empty when the process ends without one; a task that is cancelled ends it.
  private static func firstLine(_ handle: FileHandle, of process: ChildProcess) async -> String {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        Thread.detachNewThread {
          var text = Data()
          while !text.contains(0x0a) {
            let more = handle.availableData
            guard !more.isEmpty else { break }
            text += more
          }
          continuation.resume(returning: String(decoding: text, as: UTF8.self))
        }
      }
    } onCancel: {
      process.signal(SIGKILL)
    }
  }

  /// `kill -9`, and waits for its end.
  func kill() { process.kill() }
}

/// Posts to one grape over kept connections.
struct KeptClient: Sendable {
  private let client: LoopBound<HTTPClient>
  private let destination: Destination

  init(_ tls: TLSConfiguration, _ address: SocketAddress) async throws {
    let context = try TLSContext(tls)
    client = try await EventLoopGroup.shared().next().run { loop in
      LoopBound(HTTPClient(context: context), on: loop)
    }
    destination = Destination(Endpoint(address), verification: .name("127.0.0.1"))
  }

  func post(_ body: String, _ path: String) async throws -> (status: Int, body: String) {
    let request = HTTPClientRequest(.post, path, body: Array(body.utf8))
    // A kept connection may be closed just as a request goes out: a lookup is asked again then.
    let response = try await Self.send(
      request, destination, client, isRetryable: path == "/lookup", on: client.loop)
    return (response.status.code, String(decoding: response.body, as: UTF8.self))
  }

  private static func send(
    _ request: HTTPClientRequest, _ destination: Destination, _ client: LoopBound<HTTPClient>,
    isRetryable: Bool, on loop: isolated EventLoop
  ) async throws -> HTTPClientResponse {
    try await client.get(on: loop).send(
      request, to: destination, by: .now() + .seconds(10), isRetryable: isRetryable, on: loop)
  }

  /// Posts a body for each number, several at once.
  func post(
    _ numbers: Range<Int>, _ path: String, _ body: @escaping @Sendable (Int) -> String
  ) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      for place in 0..<8 {
        group.addTask {
          for number in numbers where number % 8 == place {
            _ = try await post(body(number), path)
          }
        }
      }
      try await group.waitForAll()
    }
  }

  /// A number of the page `/status`.
  func status(_ name: String) async throws -> Int {
    let text = try await post("", "/status").body
    let members = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
    return members?[name] as? Int ?? -1
  }
}
