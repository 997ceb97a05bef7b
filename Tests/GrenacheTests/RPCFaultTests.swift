import GrenacheTransport
import TestSupport
import Testing

@testable import Grenache

@Suite("What a worker answers that does not carry a call out", .timeLimit(.minutes(1)))
struct RPCFaultTests {
  let authority: TestAuthority
  let one = Array("1".utf8)

  init() throws { authority = try TestAuthority() }

  @Test("a service with as many calls as it takes turns the next away, and that may be tried again")
  func overloaded() async throws {
    let begun = Tally()
    let (gate, opening) = AsyncStream.makeStream(of: Void.self)
    var service = RPCService(raw: "rpc_test") { request in
      await begun.add()
      for await _ in gate {}
      return request.payload
    }
    service.callsMax = 2
    try await withServer([service], tls: try authority.worker("rpc_test")) { worker in
      let client = try await directClient(try authority.client())
      let calls = (0..<2).map { _ in
        Task { try await client.requestRaw("rpc_test", one, to: worker).result }
      }
      await begun.reaches(2)
      let error = await grenacheError {
        _ = try await client.requestRaw("rpc_test", one, to: worker)
      }
      #expect(error?.code == .overloaded)
      #expect(error?.isRetryable == true)
      opening.finish()
      for call in calls { #expect(try await call.value == one) }
      #expect(try await client.requestRaw("rpc_test", one, to: worker).result == one)
    }
  }

  @Test(
    "a handler's own error is not one by which the server says that a call was not begun",
    arguments: [RPCTransport.wss, .https],
    ["ERR_OVERLOADED: no seats", "ERR_SHUTTING_DOWN", "ERR_OVERLOADED_SEATS"])
  func handlersError(_ transport: RPCTransport, _ message: String) async throws {
    let calls = Tally()
    let service = RPCService(raw: "rpc_test") { _ in
      await calls.add()
      throw RPCFault(message)
    }
    let fleet = try await WorkerFleet(
      [service, service], authority: authority, configure: { $0.transport = transport })
    let error = await grenacheError {
      _ = try await fleet.client.requestRaw("rpc_test", one, options: .idempotent)
    }
    #expect(error?.code == .remoteError)
    #expect(error?.message.hasSuffix(message) == true)
    #expect(await calls.value == 1)
    await fleet.stop()
  }

  @Test(
    "an error's code counts up to the colon or the end, and only where the extension was agreed on",
    arguments: [
      ("ERR_OVERLOADED", GrenacheError.Code.overloaded), ("ERR_OVERLOADED: x", .overloaded),
      ("ERR_SHUTTING_DOWN: x", .workerUnreachable), ("ERR_NOT_PERMITTED: x", .notPermitted),
      ("ERR_DEADLINE_EXCEEDED", .deadlineExceeded), ("ERR_OVERLOADED_X: x", .remoteError),
      ("ERR_OVERLOADED x", .remoteError), ("", .remoteError), (":", .remoteError),
    ])
  func errorCodes(_ message: String, _ code: GrenacheError.Code) {
    #expect(RPCFault.code(of: message, isExtended: true) == code)
    #expect(RPCFault.code(of: message, isExtended: false) == .remoteError)
  }

  @Test(
    "a fault may bring a result with it, one JSON value within the limit",
    arguments: [RPCTransport.wss, .https])
  func resultBeside(_ transport: RPCTransport) async throws {
    let service = RPCService(raw: "rpc_test") { request in
      throw RPCFault("no", result: Array(request.payload.dropFirst().dropLast()))
    }
    try await withServer(
      [service], tls: try authority.worker("rpc_test"), configure: { $0.replyBytesMax = 100 }
    ) { worker in
      let client = try await directClient(try authority.client()) { $0.transport = transport }
      func error(_ payload: String) async -> GrenacheError? {
        await grenacheError {
          _ = try await client.requestRaw("rpc_test", Array(payload.utf8), to: worker)
        }
      }
      let both = await error("[{}]")
      #expect(both?.code == .remoteError && both?.message == "no")
      #expect(both?.result == Array("{}".utf8))
      let unsent = await error("[1,2]")
      #expect(unsent?.message == "no" && unsent?.result == nil)
      let large = await error("[\"\(String(repeating: "x", count: 100))\"]")
      #expect(large?.message.hasPrefix("ERR_REPLY_SIZE") == true && large?.result == nil)
      await client.close()
    }
  }

  @Test("without the extension what an error begins with means nothing")
  func plainErrors() async throws {
    var full = RPCService(raw: "rpc_test") { $0.payload }
    full.callsMax = 0
    try await withServer([full], tls: try authority.worker("rpc_test")) { worker in
      let client = try await directClient(try authority.client()) {
        $0.offersExtension = false
      }
      let error = await grenacheError {
        _ = try await client.requestRaw("rpc_test", one, to: worker)
      }
      #expect(error?.code == .remoteError)
    }
  }
}
