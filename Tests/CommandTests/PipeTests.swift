import Foundation
import TestSupport
import Testing

@Suite("Commands and those beside them", .timeLimit(.minutes(1)))
struct PipeTests {
  @Test("a reader that has seen enough ends a command quietly")
  func closedPipe() async throws {
    let folder = try TemporaryFolder()
    // Standard output is a pipe whose reader is gone before anything is printed.
    let script = """
      { sleep 1; "$0" certs make --out "$1"; echo "status $?" >&2; } | true
      """
    let ended = try await run("/bin/sh", "-c", script, Programs.grenache, folder.path)
    #expect(ended.errors == "status 0\n")
  }

  @Test("call, map, stream, lookup and sub end quietly, too")
  func closedPipes() async throws {
    let grape = try await RunningGrape()
    let api = grape.api
    let worker = try RunningCommand(
      Programs.grenache,
      [
        "serve", "rpc_test", "--port", "0", "--json", "--echo", "--grape", api, "--tls-dir",
        GeneratedCertificates.directory("worker"),
      ])
    _ = await worker.firstLine()
    let arguments = ["--grape", api, "--tls-dir", try GeneratedCertificates.directory("client")]
    // What is there is looked up soon after it has been announced.
    while try await run(Programs.grenache, ["lookup", "rpc_test"] + arguments).status != 0 {}
    for command in [
      ["lookup", "rpc_test"], ["call", "rpc_test", "1"], ["map", "rpc_test", "1"],
      ["stream", "rpc_test"],
    ] {
      let ended = try await intoClosedPipe(command + arguments)
      #expect(ended.errors == "status 0\n", "\(command[0])")
    }
    #expect(await worker.terminate() == 0)
    let publisher = try RunningCommand(
      Programs.grenache,
      [
        "pub", "rpc_test", "--port", "0", "--json", "--wait-for", "1", "--grape", api, "--tls-dir",
        GeneratedCertificates.directory("worker"),
      ])
    _ = await publisher.firstLine()
    publisher.write("one\n")
    let ended = try await intoClosedPipe(["sub", "rpc_test"] + arguments)
    #expect(ended.errors == "status 0\n")
    _ = await publisher.terminate()
    #expect(await grape.terminate() == 0)
  }

  /// Standard output is a pipe whose reader is gone; standard input is never empty.
  private func intoClosedPipe(_ arguments: [String]) async throws -> Ended {
    let script = """
      { sleep 1; yes 2>&- | "$0" "$@"; echo "status $?" >&2; } | true
      """
    return try await run("/bin/sh", ["-c", script, Programs.grenache] + arguments)
  }

  @Test("a call that is cancelled ends its command, and what that has started")
  func cancelledCommand() async throws {
    let folder = try TemporaryFolder()
    // One process that ends when it is asked to, and one that does not.
    let command = """
      sleep 61 & echo $! > \(folder.path)/first
      sh -c 'trap "" TERM; echo $$ > \(folder.path)/second; sleep 62; sleep 62' & wait
      """
    let worker = try RunningCommand(
      Programs.grenache,
      [
        "serve", "rpc_test", "--port", "0", "--json", "--no-announce", "--exec", command,
        "--tls-dir", GeneratedCertificates.directory("worker"),
      ])
    let address = "127.0.0.1:" + port(of: member("address", of: await worker.firstLine()))
    let call = try await run(
      Programs.grenache, "call", "rpc_test", "1", "--to", address, "--timeout", "2", "--tls-dir",
      GeneratedCertificates.directory("client"))
    #expect(call.status == 75, "\(call.errors)")
    for name in ["first", "second"] {
      let text = try String(contentsOfFile: "\(folder.path)/\(name)", encoding: .utf8)
      let process = try #require(pid_t(text.trimmingCharacters(in: .whitespacesAndNewlines)))
      let end = ContinuousClock.now + .seconds(20)
      while kill(process, 0) == 0, ContinuousClock.now < end { await Task.yield() }
      #expect(kill(process, 0) == -1, "\(name)")
    }
    #expect(await worker.terminate() == 0)
  }
}
