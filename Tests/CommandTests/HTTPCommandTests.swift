import Foundation
import TestSupport
import Testing

/// A worker of `rpc_test` that echoes, as a process.
private func withEchoWorker(
  _ arguments: String..., body: (_ address: String) async throws -> Void
) async throws {
  let worker = try RunningCommand(
    Programs.grenache,
    [
      "serve", "rpc_test", "--port", "0", "--json", "--no-announce", "--echo", "--tls-dir",
      GeneratedCertificates.directory("worker"),
    ] + arguments)
  let address = "127.0.0.1:" + port(of: member("address", of: await worker.firstLine()))
  try await body(address)
  #expect(await worker.terminate() == 0)
}

@Suite("HTTPS RPC: curl", .timeLimit(.minutes(2)))
struct CurlTests {
  private static let body = "[\"r1\",\"rpc_test\",\"hello\"]"
  private static let reply = "[\"r1\",null,\"hello\"]"

  private func curl(_ arguments: String...) async throws -> Ended {
    let client = try GeneratedCertificates.directory("client")
    // A worker is known by its service, which curl does not look at.
    return try await run(
      Programs.curl,
      [
        "-sv", "-k", "--cacert", "\(client)/ca.pem", "--cert", "\(client)/cert.pem", "--key",
        "\(client)/key.pem",
      ] + arguments)
  }

  @Test("two calls over one kept connection")
  func keepAlive() async throws {
    try await withEchoWorker { address in
      let url = "https://\(address)/"
      let ended = try await curl("-d", Self.body, url, url)
      #expect(ended.output == Self.reply + Self.reply, "\(ended.errors)")
      #expect(ended.errors.contains("Re-using existing connection"))
    }
  }

  @Test("a chunked body, and one that waits for 100 (Continue)")
  func chunked() async throws {
    try await withEchoWorker { address in
      let url = "https://\(address)/"
      let chunked = try await curl("-H", "Transfer-Encoding: chunked", "-d", Self.body, url)
      #expect(chunked.output == Self.reply, "\(chunked.errors)")
      let waiting = try await curl("-H", "Expect: 100-continue", "-d", Self.body, url)
      #expect(waiting.output == Self.reply)
      #expect(waiting.errors.contains("HTTP/1.1 100 Continue"), "\(waiting.errors)")
    }
  }

  @Test("grc-compress: gzip compresses the reply")
  func gzip() async throws {
    try await withEchoWorker { address in
      let folder = try TemporaryFolder()
      let file = "\(folder.path)/reply.gz"
      let ended = try await curl(
        "-H", "grc-compress: gzip", "-d", Self.body, "-o", file, "https://\(address)/")
      #expect(ended.status == 0)
      let text = try await run("/bin/gzip", "-dc", file)
      #expect(text.output == Self.reply, "\(text.errors)")
    }
  }

  @Test("a stream is echoed as raw bytes")
  func stream() async throws {
    try await withEchoWorker { address in
      let ended = try await curl(
        "-H", "_gr: [\"r1\",\"rpc_test\"]", "-H", "Transfer-Encoding: chunked", "-d", "raw bytes",
        "https://\(address)/")
      #expect(ended.output == "raw bytes", "\(ended.errors)")
    }
  }

  @Test("with --insecure-plaintext beside certificates, one port answers with and without TLS")
  func plaintext() async throws {
    try await withEchoWorker("--insecure-plaintext") { address in
      for scheme in ["http", "https"] {
        let ended = try await curl("-d", Self.body, "\(scheme)://\(address)/")
        #expect(ended.output == Self.reply, "\(ended.errors)")
      }
    }
    try await withEchoWorker { address in
      let ended = try await curl("-d", Self.body, "http://\(address)/")
      #expect(ended.status != 0)
    }
  }

  @Test("--transport https, compressed or not; streams from standard input")
  func commands() async throws {
    try await withEchoWorker { address in
      let client = ["--to", address, "--tls-dir", try GeneratedCertificates.directory("client")]
      for options in [["--transport", "https"], ["--transport", "https", "--gzip"]] {
        let called = try await run(
          Programs.grenache, ["call", "rpc_test", "hello"] + client + options)
        #expect(called.output == "hello", "\(called.errors)")
      }
      let streamed = try await run(
        "/bin/sh",
        [
          "-c", "printf 'one two' | \"$0\" \"$@\"", Programs.grenache, "stream", "rpc_test",
        ] + client)
      #expect(streamed.output == "one two", "\(streamed.errors)")
      #expect(streamed.status == 0)
      let usage = try await run(
        Programs.grenache, ["call", "rpc_test", "hello", "--gzip"] + client)
      #expect(usage.status == 64)
    }
  }
}

@Suite("announce, map and bench as commands", .timeLimit(.minutes(2)))
struct MoreCommandTests {
  @Test("announce takes words, lines with comments, another delimiter and JSON; map calls them all")
  func announceAndMap() async throws {
    let grape = try await RunningGrape(isPlain: true)
    let api = grape.api
    let options = ["--grape", api, "--insecure-plaintext"]
    let worker = try RunningCommand(
      Programs.grenache,
      ["serve", "a", "--port", "0", "--json", "--echo", "--no-announce", "--insecure-plaintext"])
    let port = port(of: member("address", of: await worker.firstLine()))
    for (input, arguments, expected) in [
      ("# comment\\n; another\\n\\n a,\(port) \\n", [], "a,\(port) stored on 0"),
      ("a:b:\(port)\\n", ["-d", ":"], "a:b:\(port) stored on 0"),
      (
        "[\"c\",\(port)]\\n", ["--json"],
        "{\"port\":\(port),\"service\":\"c\",\"stored\":0}"
      ),
    ] as [(String, [String], String)] {
      let announced = try await run(
        "/bin/sh",
        ["-c", "printf '\(input)' | \"$0\" \"$@\"", Programs.grenache, "announce"] + arguments
          + options)
      #expect(announced.output == expected, "\(announced.errors)")
    }
    let bad = try await run(Programs.grenache, ["announce", "nonsense"] + options)
    #expect(bad.status == 64)
    let mapped = try await run(Programs.grenache, ["map", "a", "hello", "--json"] + options)
    #expect(
      mapped.output == "{\"result\":\"hello\",\"worker\":\"127.0.0.1:\(port)\"}", "\(mapped.errors)"
    )
    let bench = try await run(
      Programs.grenache,
      ["bench", "a", "--seconds", "0.3", "--in-flight", "4", "--json"] + options)
    #expect(bench.output.contains("\"failures\":0"), "\(bench.errors)")
    let open = try await run(
      Programs.grenache, ["bench", "a", "--seconds", "0.3", "--rate", "200"] + options)
    #expect(open.output.contains("calls, 0 failed"), "\(open.output)\(open.errors)")
    _ = await worker.terminate()
    _ = await grape.terminate()
  }
}
