import Grenache
import GrenacheTransport
import TestSupport
import Testing

@Suite("How a stream is answered", .timeLimit(.minutes(1)))
struct RPCStreamAnswerTests {
  let authority: TestAuthority

  init() throws { authority = try TestAuthority() }

  private func answer(_ worker: Endpoint, _ client: PeerRPCClient) async throws -> [UInt8] {
    try await client.stream("rpc_test", to: worker) { stream in
      await stream.finish()
      var answer: [UInt8] = []
      for try await part in try await stream.incoming() { answer += part }
      return answer
    }
  }

  @Test("reply: one JSON value within the limit, in place of bytes, and none behind bytes")
  func reply() async throws {
    let codes = Tally()
    let service = RPCService(stream: "rpc_test") { _, stream in
      for bad in [[UInt8]("nul".utf8), [0x22, 0xff, 0x22], [UInt8](repeating: 0x31, count: 101)] {
        do throws(GrenacheError) {
          try await stream.replyRaw(bad)
        } catch {
          await codes.add(error.code == .invalidReply ? 1 : 0)
        }
      }
      try await stream.reply(["a": 1])
      do throws(GrenacheError) {
        try await stream.replyRaw([0x31])
      } catch {
        await codes.add(error.code == .invalidReply ? 1 : 0)
      }
    }
    try await withServer(
      [service], tls: try authority.worker("rpc_test"), configure: { $0.replyBytesMax = 100 }
    ) { worker in
      let client = try await directClient(try authority.client())
      let text = String(decoding: try await answer(worker, client), as: UTF8.self)
      #expect(text.hasPrefix("[\"") && text.hasSuffix(",null,{\"a\":1}]"))
      await codes.reaches(4)
      await client.close()
    }
  }

  @Test("an answer in bytes is not followed by a reply")
  func replyBehindBytes() async throws {
    let refused = Tally()
    let service = RPCService(stream: "rpc_test") { _, stream in
      try await stream.write([0x61])
      do throws(GrenacheError) {
        try await stream.replyRaw([0x31])
      } catch {
        await refused.add(error.code == .invalidReply ? 1 : 0)
      }
    }
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let client = try await directClient(try authority.client())
      #expect(try await answer(worker, client) == [0x61])
      await refused.reaches(1)
      await client.close()
    }
  }

  @Test("an error that does not end is not waited for")
  func endlessError() async throws {
    let beginning = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 100\r\n\r\nno"
    try await withHostileServer(.answers(Array(beginning.utf8))) { worker in
      let link = try await Link(.insecurePlaintext(grapes: [worker]), logger: quietLogger)
      let client = await PeerRPCClient(link: link)
      let error = await grenacheError {
        try await client.stream("rpc_test", to: worker, within: .milliseconds(500)) { stream in
          await stream.finish()
          for try await _ in try await stream.incoming() {}
        }
      }
      #expect(error?.code == .deadlineExceeded)
      await client.close()
      await link.close()
    }
  }

  @Test("a black hole has half of the time: the other worker is connected to then")
  func blackHole() async throws {
    let service = RPCService(stream: "rpc_test") { _, stream in try await stream.write([0x61]) }
    let worker = try await RunningWorker([service], tls: try authority.worker("rpc_test"))
    let grape = try await FixedGrape(tls: try authority.host())
    try await withHostileServer(.saysNothing) { hole in
      grape.answer([hole, worker.endpoint])
      let link = try await Link(
        LinkConfiguration(grapes: [grape.endpoint], tls: try authority.client()),
        logger: quietLogger)
      var configuration = PeerRPCClientConfiguration()
      configuration.connectTimeout = .seconds(60)
      // Which of both is first is chance: with three clients it is nearly always the hole for one.
      for _ in 0..<4 {
        let client = await PeerRPCClient(link: link, configuration: configuration)
        let answer = try await client.stream("rpc_test", within: .seconds(4)) { stream in
          await stream.finish()
          var answer: [UInt8] = []
          for try await part in try await stream.incoming() { answer += part }
          return answer
        }
        #expect(answer == [0x61])
        await client.close()
      }
      await link.close()
    }
    await grape.stop()
    await worker.stop()
  }
}
