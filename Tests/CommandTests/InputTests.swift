import Foundation
import TestSupport
import Testing

@Suite("Standard input and output as they may be", .timeLimit(.minutes(2)))
struct InputTests {
  /// Runs `grenache` by a shell, which redirects as `redirection` says.
  private func shell(_ redirection: String, _ arguments: [String]) async throws -> Ended {
    try await run("/bin/sh", ["-c", "\"$0\" \"$@\" \(redirection)", Programs.grenache] + arguments)
  }

  private func worker() async throws -> (RunningCommand, [String]) {
    let worker = try RunningCommand(
      Programs.grenache,
      [
        "serve", "rpc_test", "--port", "0", "--json", "--no-announce", "--echo",
        "--insecure-plaintext",
      ])
    let address = member("address", of: await worker.firstLine())
    return (worker, ["--to", address, "--insecure-plaintext"])
  }

  @Test(
    "an input that cannot be read ends a command with 65, and says why",
    arguments: ["</tmp", "<&-"])
  func unreadable(_ redirection: String) async throws {
    let (worker, to) = try await worker()
    let grape = ["-g", "127.0.0.1:1", "--insecure-plaintext"]
    for arguments in [
      ["stream", "rpc_test"] + to, ["call", "rpc_test", "-"] + to,
      ["map", "rpc_test", "-"] + grape, ["put", "-"] + grape, ["announce"] + grape,
      ["pub", "news", "--port", "0", "--no-announce", "--insecure-plaintext"],
    ] {
      let ended = try await shell(redirection, arguments)
      #expect(ended.status == 65, "\(arguments): \(ended.errors)")
      let reason = redirection == "</tmp" ? "Is a directory" : ""
      #expect(ended.errors.contains("cannot be read: \(reason)"), "\(ended.errors)")
    }
    #expect(await worker.terminate() == 0)
  }

  @Test("a stream whose input breaks is cancelled at the worker, which has not seen its end")
  func brokenStream() async throws {
    let (worker, to) = try await worker()
    // A connection that is reset is an input that breaks behind what it has given.
    let script = """
      import socket, struct, subprocess, sys
      listener = socket.create_server(("127.0.0.1", 0))
      peer = socket.create_connection(listener.getsockname())
      given, _ = listener.accept()
      command = subprocess.Popen(sys.argv[1:], stdin=given, stdout=subprocess.PIPE)
      given.close()
      peer.sendall(b"one\\n")
      assert command.stdout.readline() == b"one\\n"
      peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
      peer.close()
      sys.exit(command.wait())
      """
    let ended = try await run(
      "/usr/bin/python3", ["-c", script, Programs.grenache, "stream", "rpc_test"] + to)
    #expect(ended.status == 65, "\(ended.errors)")
    #expect(ended.errors.contains("standard input: it cannot be read"), "\(ended.errors)")
    #expect(await worker.terminate() == 0)
  }

  @Test("a payload from standard input: as it is, empty, too large, no text")
  func payload() async throws {
    let (worker, to) = try await worker()
    for (command, status, output) in [
      ("printf '{\"a\":1}'", 0, "{\"a\":1}"), ("printf ''", 0, ""), ("printf 'a b'", 0, "a b"),
      ("printf '\\303'", 65, ""), ("head -c 1048577 /dev/zero", 65, ""),
    ] as [(String, Int32, String)] {
      let ended = try await run(
        "/bin/sh",
        ["-c", "\(command) | \"$0\" \"$@\"", Programs.grenache, "call", "rpc_test", "-"] + to)
      #expect(ended.status == status, "\(command): \(ended.errors)")
      #expect(ended.output == output)
      if status != 0 { #expect(ended.errors.contains("a call"), "\(ended.errors)") }
    }
    #expect(await worker.terminate() == 0)
  }

  @Test("a line that is no text ends a publisher with 65; announce passes it over")
  func noText() async throws {
    let lines = "printf 'a,1\\n\\377,2\\nb,3\\n' |"
    let grape = try await RunningGrape(isPlain: true)
    let announced = try await run(
      "/bin/sh",
      ["-c", "\(lines) \"$0\" \"$@\"", Programs.grenache, "announce"] + grape.options())
    #expect(announced.status == 0)
    #expect(announced.output == "a,1 stored on 0\nb,3 stored on 0")
    #expect(announced.errors.contains("line 2 of the input is no text in UTF-8"))
    let published = try await run(
      "/bin/sh",
      [
        "-c", "\(lines) \"$0\" \"$@\"", Programs.grenache, "pub", "news", "--port", "0",
        "--no-announce", "--insecure-plaintext",
      ])
    #expect(published.status == 65)
    #expect(published.errors.contains("line 2 of the input is no text in UTF-8"))
    #expect(await grape.terminate() == 0)
  }

  @Test(
    "an output that cannot be written is told, with 70", arguments: [">/dev/full", ">&-"])
  func unwritable(_ redirection: String) async throws {
    let (worker, to) = try await worker()
    for command in [["call", "rpc_test", "1"], ["stream", "rpc_test"]] {
      let ended = try await shell("\(redirection) </etc/hostname", command + to)
      #expect(ended.status == 70, "\(ended.errors)")
      #expect(ended.errors.contains("error: standard output: "), "\(ended.errors)")
    }
    #expect(await worker.terminate() == 0)
  }

  @Test("descriptors that somebody has told not to wait are waited for")
  func notBlocking() async throws {
    let (worker, to) = try await worker()
    // More than a pipe holds, through two pipes that do not block.
    let script = """
      import os, subprocess, sys
      here, there = os.pipe(), os.pipe()
      for pipe in here, there:
        os.set_blocking(pipe[0], False); os.set_blocking(pipe[1], False)
      command = subprocess.Popen(sys.argv[1:], stdin=here[0], stdout=there[1])
      os.set_blocking(here[1], True)
      os.close(here[0]); os.close(there[1])
      data = bytes(1 << 20)
      if os.fork() == 0:
        os.close(there[0])
        os.write(here[1], data)
        os._exit(0)
      os.close(here[1])
      got = b""
      os.set_blocking(there[0], True)
      while part := os.read(there[0], 1 << 16): got += part
      sys.exit(command.wait() if got == data else 1)
      """
    let ended = try await run(
      "/usr/bin/python3", ["-c", script, Programs.grenache, "stream", "rpc_test"] + to)
    #expect(ended.status == 0, "\(ended.errors)")
    #expect(await worker.terminate() == 0)
  }
}
