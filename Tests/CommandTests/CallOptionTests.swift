import Foundation
import Grenache
import TestSupport
import Testing

@Suite("Options of call, map, stream and serve", .timeLimit(.minutes(2)))
struct CallOptionTests {
  private func object(_ line: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
  }

  @Test("call --json: the result as JSON, who gave it, by what TLS")
  func callJSON() async throws {
    let grape = try await RunningGrape()
    let (worker, address) = try await grape.start(["serve", "rpc_test", "--echo"])
    try await grape.announced(1, "rpc_test")
    let ended = try await grape.grenache("call", "rpc_test", #"{"a":[1,"b"]}"#, "--json")
    let reply = try object(ended.output)
    #expect(Set(reply.keys) == ["identity", "result", "tls", "tookMs", "worker"])
    let took = try #require(reply["tookMs"] as? Double, "\(ended.output)")
    #expect(took > 0 && took < 60_000)
    #expect((reply["result"] as? [String: Any])?["a"] as? [AnyHashable] == [1, "b"])
    #expect(reply["worker"] as? String == address)
    #expect(reply["identity"] as? [String] == ["URI:grenache:rpc_test"])
    #expect((reply["tls"] as? String)?.hasPrefix("TLSv1.3") == true, "\(ended.output)")
    #expect(await worker.terminate() == 0)
    #expect(await grape.terminate() == 0)
  }

  @Test("map --limit: so many workers at most, and all of fewer")
  func mapLimit() async throws {
    let grape = try await RunningGrape(isPlain: true)
    var workers: [RunningCommand] = []
    for _ in 0..<3 { workers.append(try await grape.start(["serve", "a", "--echo"]).0) }
    try await grape.announced(3, "a")
    for (limit, count) in [("1", 1), ("2", 2), ("3", 3), ("4", 3)] {
      let ended = try await grape.grenache("map", "a", "[1]", "--limit", limit, "--json")
      let lines = try ended.output.split(separator: "\n").map { try object(String($0)) }
      #expect(ended.status == 0 && lines.count == count, "\(ended.errors)")
      #expect(Set(lines.compactMap { $0["worker"] as? String }).count == count)
      #expect(lines.allSatisfy { $0["result"] as? [Int] == [1] })
    }
    #expect(try await grape.grenache("map", "a", "1", "--limit", "0").status == 64)
    for worker in workers { #expect(await worker.terminate() == 0) }
    #expect(await grape.terminate() == 0)
  }

  @Test("stream --action: the worker's handler sees it")
  func action() async throws {
    let service = RPCService(stream: "a") { request, stream in
      for try await part in stream.incoming { try await stream.write(part) }
      try await stream.write(Array(" for \(request.action ?? "nothing")".utf8))
    }
    let server = PeerRPCServer(
      .insecurePlaintext(port: 0), services: [service], logger: quietLogger)
    let worker = try await RunningTask { started in try await server.run { started("\($0)") } }
    for (options, said) in [(["--action", "upper"], "upper"), ([], "nothing")] {
      let stream = try RunningCommand(
        Programs.grenache, ["stream", "a", "--to", worker.place, "--insecure-plaintext"] + options)
      stream.write("bytes")
      stream.closeInput()
      let ended = await stream.end()
      #expect(ended.status == 0 && ended.output == "bytes for \(said)", "\(ended.errors)")
    }
    await worker.stop()
  }

  @Test("stream --max-time: it ends with 75 when the time is over, though both sides would go on")
  func maxTime() async throws {
    let grape = try await RunningGrape(isPlain: true)
    let (worker, address) = try await grape.start(["serve", "a", "--echo", "--no-announce"])
    let to = ["stream", "a", "--to", address, "--insecure-plaintext", "--max-time"]
    let stream = try RunningCommand(Programs.grenache, to + ["1"])
    stream.write("one\n")
    #expect(await stream.firstLine() == "one")
    let ended = await stream.end()
    #expect(ended.status == 75 && ended.errors.contains("lasts longer"), "\(ended.errors)")
    #expect(try await run(Programs.grenache, to + ["0"]).status == 64)
    #expect(await worker.terminate() == 0)
    #expect(await grape.terminate() == 0)
  }

  @Test("serve --access-policy: who may call, a change counts at once, a fault is 78")
  func accessPolicy() async throws {
    let folder = try TemporaryFolder()
    let policy = "\(folder.path)/policy.yaml"
    func allow(_ name: String) throws {
      try "rules:\n  - {allow: [call], keys: [rpc_test], to: [{\(name)}]}\n".write(
        toFile: policy, atomically: true, encoding: .utf8)
    }
    try allow("dns: client.test")
    let grape = try await RunningGrape()
    let (worker, address) = try await grape.start([
      "serve", "rpc_test", "--echo", "--no-announce", "--access-policy", policy,
    ])
    func call(_ certificate: String) async throws -> Ended {
      try await run(
        Programs.grenache,
        ["call", "rpc_test", "1", "--to", address, "--timeout", "5"] + grape.security(certificate))
    }
    #expect(try await call("client").output == "1")
    let other = try await call("other-worker")
    #expect(other.status == 77, "\(other.errors)")
    try allow("\"uri\": \"grenache:other\"")
    // The worker looks at its file by itself.
    var denied = try await call("client")
    for _ in 0..<100 where denied.status == 0 { denied = try await call("client") }
    #expect(denied.status == 77, "\(denied.errors)")
    #expect(try await call("other-worker").output == "1")
    #expect(await worker.terminate() == 0)
    try "rules: 5".write(toFile: policy, atomically: true, encoding: .utf8)
    let faulty = try await run(
      Programs.grenache,
      ["serve", "rpc_test", "-p", "0", "--echo", "--access-policy", policy]
        + grape.options("worker"))
    #expect(faulty.status == 78 && faulty.errors.contains("policy.yaml:1"), "\(faulty.errors)")
    #expect(await grape.terminate() == 0)
  }

  @Test(
    "--bind: an address of this host; what is none is 64, with certificates and without",
    arguments: [["serve", "rpc_test", "--echo"], ["pub", "rpc_test"]])
  func bind(_ command: [String]) async throws {
    let worker = ["--tls-dir", try GeneratedCertificates.directory("worker")]
    for security in [worker, ["--insecure-plaintext"]] {
      for address in ["127.0.0.1", "::1"] {
        let started = try RunningCommand(
          Programs.grenache,
          command + ["-p", "0", "--json", "--no-announce", "--bind", address] + security)
        let listening = member("address", of: await started.firstLine())
        #expect(listening.hasPrefix(address == "::1" ? "[::1]:" : "127.0.0.1:"), "\(listening)")
        #expect(await started.terminate() == 0)
      }
      let wrong = try await run(
        Programs.grenache, command + ["-p", "0", "--no-announce", "--bind", "here"] + security)
      #expect(wrong.status == 64 && wrong.errors.contains("--bind: here"), "\(wrong.errors)")
    }
    let open = try await run(
      Programs.grenache,
      command + ["-p", "0", "--no-announce", "--bind", "0.0.0.0", "--insecure-plaintext"])
    #expect(open.status == 64, "\(open.errors)")
  }

  @Test("several grapes: the next one is asked where the first is dead")
  func severalGrapes() async throws {
    let grape = try await RunningGrape(isPlain: true)
    let (worker, _) = try await grape.start(["serve", "a", "--echo", "--grape", "127.0.0.1:1"])
    try await grape.announced(1, "a")
    for command in [
      ["lookup", "a"], ["call", "a", "1"], ["map", "a", "1"], ["stream", "a"], ["put", "text"],
      ["bench", "a", "1", "--seconds", "0.1"],
    ] {
      let ended = try await run(
        Programs.grenache, command + ["--grape", "127.0.0.1:1"] + (try grape.options()))
      #expect(ended.status == 0, "\(command): \(ended.errors)")
    }
    #expect(await worker.terminate() == 0)
    #expect(await grape.terminate() == 0)
  }
}
