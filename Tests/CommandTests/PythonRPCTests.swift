import Foundation
import Grenache
import GrenacheIO
import GrenacheTLS
import GrenacheTransport
import TestSupport
import Testing

/// How a peer of a test is reached.
enum Security: CaseIterable {
  case mutualTLS
  case plaintext

  /// What a Python program is told of the certificates, behind `option` where it has one.
  func python(_ certificate: String, option: String? = nil) throws -> [String] {
    guard self == .mutualTLS else { return [] }
    return [option, try GeneratedCertificates.directory(certificate)].compactMap(\.self)
  }

  /// The same of ours.
  func options(_ certificate: String) throws -> [String] {
    self == .plaintext
      ? ["--insecure-plaintext"] : ["--tls-dir", try GeneratedCertificates.directory(certificate)]
  }

  /// A client that finds nobody by itself.
  func client(_ transport: RPCTransport) async throws -> PeerRPCClient {
    let nowhere = Endpoint(host: "127.0.0.1", port: 1)
    let link =
      self == .plaintext
      ? LinkConfiguration.insecurePlaintext(grapes: [nowhere])
      : LinkConfiguration(
        grapes: [nowhere], tls: try GeneratedCertificates.configuration("client"))
    var configuration = PeerRPCClientConfiguration()
    configuration.transport = transport
    configuration.connectionsPerWorkerMax = 1
    return await PeerRPCClient(
      link: try await Link(link, logger: quietLogger), configuration: configuration)
  }

  /// A worker in this process.
  func worker(_ services: [RPCService]) async throws -> RunningTask<SocketAddress> {
    var configuration =
      self == .plaintext
      ? PeerRPCServerConfiguration.insecurePlaintext(port: 0)
      : PeerRPCServerConfiguration(port: 0, tls: try GeneratedCertificates.configuration("worker"))
    configuration.host = "127.0.0.1"
    configuration.drainTimeout = .milliseconds(100)
    let server = PeerRPCServer(configuration, services: services, logger: quietLogger)
    return try await RunningTask { started in try await server.run { started($0) } }
  }
}

/// Runs a worker made of Python while `body` runs, and ends it.
private func withPython(
  _ script: String, _ security: Security, _ body: (_ port: String) async throws -> Void
) async throws {
  let server = try RunningCommand(
    Programs.python, ["\(Programs.interop)/\(script)"] + (try security.python("worker")))
  try await body(await server.firstLine())
  server.closeInput()
  let ended = await server.end()
  #expect(ended.status == 0, "\(ended.errors)")
}

/// What a call of a service is answered with, as JSON, or the message of its error.
private func outcome(
  of payload: String, _ client: PeerRPCClient, _ worker: Endpoint
) async -> String {
  do throws(GrenacheError) {
    let reply = try await client.requestRaw("rpc_test", Array(payload.utf8), to: worker)
    return String(decoding: reply.result, as: UTF8.self)
  } catch {
    return "\(error.code == .remoteError ? "" : "\(error.code) ")\(error.message)"
  }
}

@Suite(
  "Python's websockets as worker, in the clear and over mutual TLS",
  .enabled(if: Programs.hasPython),
  .timeLimit(.minutes(2)))
struct PythonWorkerTests {
  @Test("grenache calls it", arguments: Security.allCases)
  func command(_ security: Security) async throws {
    try await withPython("ws_server.py", security) { port in
      let reply = try await run(
        Programs.grenache,
        ["call", "rpc_test", "hello", "--to", "127.0.0.1:\(port)"]
          + (try security.options("client")))
      #expect(reply.output == "world", "\(reply.errors)")
    }
  }

  @Test("it is announced, looked up and called", arguments: Security.allCases)
  func lookup(_ security: Security) async throws {
    let grape = try await RunningGrape(isPlain: security == .plaintext)
    try await withPython("ws_server.py", security) { port in
      let announced = try await run(
        Programs.grenache, ["announce", "rpc_test,\(port)"] + (try grape.options("worker")))
      #expect(announced.status == 0, "\(announced.errors)")
      let reply = try await grape.grenache("call", "rpc_test", "hello")
      #expect(reply.output == "world", "\(reply.errors)")
    }
    #expect(await grape.terminate() == 0)
  }

  @Test(
    "its errors, with a result beside them or not, and its binary messages are understood",
    arguments: Security.allCases)
  func replies(_ security: Security) async throws {
    try await withPython("ws_server.py", security) { port in
      let worker = try #require(Endpoint("127.0.0.1:\(port)"))
      let client = try await security.client(.wss)
      for (payload, expected) in [
        ("\"hello\"", "\"world\""), ("\"boom\"", "boom"), ("\"data\"", "ERR_DATA: é"),
        ("\"binary\"", "\"binary\""), ("[1,{}]", "[1,{}]"),
      ] {
        #expect(await outcome(of: payload, client, worker) == expected)
      }
      await client.close()
    }
  }

  @Test("its replies come in another order than the calls went", arguments: Security.allCases)
  func order(_ security: Security) async throws {
    try await withPython("ws_server.py", security) { port in
      let worker = try #require(Endpoint("127.0.0.1:\(port)"))
      let client = try await security.client(.wss)
      await withTaskGroup { group in
        for number in 0..<20 {
          group.addTask {
            let payload = "{\"of\":20,\"number\":\(number)}"
            #expect(await outcome(of: payload, client, worker) == payload)
          }
        }
      }
      await client.close()
    }
  }
}

@Suite(
  "Python's websockets as client, in the clear and over mutual TLS",
  .enabled(if: Programs.hasPython),
  .timeLimit(.minutes(2)))
struct PythonClientTests {
  /// What Python prints of the replies to its messages.
  private func replies(
    _ messages: [String], isBinary: Bool = false, from worker: String, _ security: Security
  ) async throws -> [String] {
    let ended = try await run(
      Programs.python,
      ["\(Programs.interop)/ws_client.py", "127.0.0.1", port(of: worker)]
        + (try security.python("client", option: "--certs")) + (isBinary ? ["--binary"] : [])
        + messages)
    #expect(ended.status == 0, "\(ended.errors)")
    return ended.output.split(separator: "\n").map(String.init)
  }

  @Test("it calls grenache serve", arguments: Security.allCases)
  func command(_ security: Security) async throws {
    let worker = try RunningCommand(
      Programs.grenache,
      ["serve", "rpc_test", "--port", "0", "--json", "--no-announce", "--reply", "world"]
        + (try security.options("worker")))
    let address = member("address", of: await worker.firstLine())
    let replies = try await replies(
      ["[\"some-rid\",\"rpc_test\",\"hello\"]"], from: address, security)
    #expect(replies == ["[\"some-rid\",null,\"world\"]"])
    #expect(await worker.terminate() == 0)
  }

  @Test("it gets errors, also of services that nobody has", arguments: Security.allCases)
  func errors(_ security: Security) async throws {
    let failing = RPCService(raw: "rpc_test") { _ in throw RPCFault("boom") }
    let worker = try await security.worker([failing])
    let replies = try await replies(
      ["[1,\"rpc_test\",1]", "[\"2\",\"rpc_other\",1]"], from: "\(worker.place)", security)
    #expect(
      replies.sorted() == [
        "[\"2\",\"ERR_SERVICE_NOT_FOUND: rpc_other\",null]", "[1,\"boom\",null]",
      ])
    await worker.stop()
  }

  @Test("its binary messages are calls like others", arguments: Security.allCases)
  func binary(_ security: Security) async throws {
    let worker = try await security.worker([RPCService(raw: "rpc_test") { $0.payload }])
    let replies = try await replies(
      ["[\"1\",\"rpc_test\",\"é\"]"], isBinary: true, from: "\(worker.place)", security)
    #expect(replies == ["[\"1\",null,\"é\"]"])
    await worker.stop()
  }

  @Test(
    "replies come when they are there, whatever is answered before", arguments: Security.allCases)
  func order(_ security: Security) async throws {
    let gate = Tally()
    let waits = RPCService(raw: "rpc_test") { request in
      await gate.reaches(1)
      return request.payload
    }
    let opens = RPCService(raw: "rpc_quick") { request in
      if request.payload == [0x32] { await gate.add() }
      return request.payload
    }
    let worker = try await security.worker([waits, opens])
    let replies = try await replies(
      ["[\"a\",\"rpc_test\",0]", "[\"b\",\"rpc_quick\",1]", "[\"c\",\"rpc_quick\",2]"],
      from: "\(worker.place)", security)
    #expect(replies.first == "[\"b\",null,1]")
    #expect(replies.sorted() == ["[\"a\",null,0]", "[\"b\",null,1]", "[\"c\",null,2]"])
    await worker.stop()
  }
}

@Suite(
  "HTTP RPC: Python's http.client and http.server, in the clear and over mutual TLS",
  .enabled(if: Programs.hasPython), .timeLimit(.minutes(2)))
struct PythonHTTPTests {
  @Test("a Python client: kept connection, chunked, gzip, stream", arguments: Security.allCases)
  func client(_ security: Security) async throws {
    let worker = try RunningCommand(
      Programs.grenache,
      ["serve", "rpc_test", "--port", "0", "--json", "--no-announce", "--echo"]
        + (try security.options("worker")))
    let address = member("address", of: await worker.firstLine())
    let ended = try await run(
      Programs.python,
      ["\(Programs.interop)/http_client.py", "127.0.0.1", port(of: address), "rpc_test"]
        + (try security.python("client")))
    let reply = "[\"r1\",null,\"hello\"]"
    #expect(
      ended.output == [reply, reply, reply, "one two"].joined(separator: "\n"), "\(ended.errors)")
    #expect(await worker.terminate() == 0)
  }

  @Test("a Python worker: calls, compressed or not, and a stream", arguments: Security.allCases)
  func worker(_ security: Security) async throws {
    try await withPython("http_server.py", security) { port in
      let client = ["--to", "127.0.0.1:\(port)"] + (try security.options("client"))
      for options in [["--transport", "https"], ["--transport", "https", "--gzip"]] {
        let called = try await run(
          Programs.grenache, ["call", "rpc_test", "hello"] + client + options)
        #expect(called.output == "world", "\(called.errors)")
      }
      let streamed = try RunningCommand(Programs.grenache, ["stream", "rpc_test"] + client)
      streamed.write("one two")
      streamed.closeInput()
      let ended = await streamed.end()
      #expect(ended.output == "ONE TWO", "\(ended.errors)")
    }
  }

  @Test("its errors are understood", arguments: Security.allCases)
  func errors(_ security: Security) async throws {
    try await withPython("http_server.py", security) { port in
      let worker = try #require(Endpoint("127.0.0.1:\(port)"))
      let client = try await security.client(.https)
      #expect(await outcome(of: "\"boom\"", client, worker) == "boom")
      #expect(await outcome(of: "[1]", client, worker) == "[1]")
      await client.close()
    }
  }
}
