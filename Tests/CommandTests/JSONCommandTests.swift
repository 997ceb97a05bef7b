import Foundation
import TestSupport
import Testing

@Suite("JSON that commands carry, and do not look into", .timeLimit(.minutes(2)))
struct JSONCommandTests {
  /// A worker in the clear, and how it is called.
  private func start(_ arguments: String...) async throws -> (RunningCommand, [String]) {
    let worker = try RunningCommand(
      Programs.grenache,
      ["serve", "a", "--port", "0", "--json", "--no-announce", "--insecure-plaintext"] + arguments)
    let address = "127.0.0.1:" + port(of: member("address", of: await worker.firstLine()))
    return (worker, ["--to", address, "--insecure-plaintext"])
  }

  /// The member of an object in one line, as it is written.
  private func result(in line: String) -> Substring? {
    line.firstMatch(of: /"result":(.*),"tls"/)?.1
  }

  @Test(
    "call --json: numbers keep their digits, strings their escapes, and there is one line",
    arguments: [
      #"123456789012345678901234567890"#, #"{"n":18446744073709551616,"x":0.10}"#,
      ##""\ud800""##, ##"["\ud800",1]"##, #"{"b":1,"a":2}"#, "null", #""/""#,
    ])
  func digits(_ payload: String) async throws {
    let (worker, to) = try await start("--echo")
    let reply = try await run(Programs.grenache, ["call", "a", payload, "--json"] + to)
    #expect(reply.status == 0, "\(reply.errors)")
    #expect(result(in: reply.output).map(String.init) == payload, "\(reply.output)")
    let plain = try await run(Programs.grenache, ["call", "a", payload] + to)
    #expect(plain.output == (payload == #""/""# ? "/" : payload), "\(plain.errors)")
    _ = await worker.terminate()
  }

  @Test("a reply in several lines is printed in one where JSON lines are")
  func lines() async throws {
    let (worker, to) = try await start("--exec", #"printf '{\n "a":\r\n 1 }\n'"#)
    let reply = try await run(Programs.grenache, ["call", "a", "1", "--json"] + to)
    #expect(result(in: reply.output) == #"{  "a":   1 }"#, "\(reply.output)\(reply.errors)")
    _ = await worker.terminate()
  }

  @Test("serve --exec: what is one JSON value is the reply, other texts are strings")
  func exec() async throws {
    for (printed, reply) in [
      (#"printf '"\\ud800"'"#, ##""\ud800""##), ("echo 1 2", #""1 2""#),
      (#"printf '"\377"'"#, "\"\\\"\u{fffd}\\\"\""),
    ] {
      let (worker, to) = try await start("--exec", printed)
      let ended = try await run(Programs.grenache, ["call", "a", "1", "--json"] + to)
      #expect(result(in: ended.output).map(String.init) == reply, "\(ended.output)\(ended.errors)")
      _ = await worker.terminate()
    }
  }

  @Test("map --json: results as they came")
  func map() async throws {
    let grape = try await RunningGrape(isPlain: true)
    let (worker, _) = try await grape.start(["serve", "a", "--echo"])
    try await grape.announced(1, "a")
    let ended = try await grape.grenache("map", "a", "[123456789012345678901234567890]", "--json")
    #expect(
      ended.output.hasPrefix(#"{"result":[123456789012345678901234567890],"#), "\(ended.output)")
    #expect(await worker.terminate() == 0)
    #expect(await grape.terminate() == 0)
  }

  @Test("call --json and map --json: what went wrong, and its code, whatever it was")
  func failures() async throws {
    let grape = try await RunningGrape(isPlain: true)
    #expect(try await grape.grenache("announce", "gone,1").status == 0)
    let nowhere = ["--to", "127.0.0.1:1"]
    for (call, status, code) in [
      (["call", "a", "1"] + nowhere, 69, "workerUnreachable"),
      (["call", "a", "1"], 69, "serviceNotFound"),
      (["call", "gone", "1"], 69, "workerUnreachable"),
      (["map", "gone", "1"], 70, "workerUnreachable"),
    ] as [([String], Int32, String)] {
      let json = call + ["--json"] + (try grape.options())
      let ended = try await run(Programs.grenache, json)
      #expect(ended.status == status, "\(call): \(ended.errors)")
      #expect(member("code", of: ended.output) == code, "\(call): \(ended.output)")
      #expect(!member("error", of: ended.output).isEmpty, "\(call): \(ended.output)")
      #expect(ended.output.split(separator: "\n").count == 1)
    }
    let plain = try await grape.grenache("call", "a", "1")
    #expect(plain.status == 69 && plain.output.isEmpty, "\(plain.output)")
    let noGrape = try await run(
      Programs.grenache,
      ["call", "a", "1", "--json", "--grape", "127.0.0.1:1", "--insecure-plaintext"])
    #expect(noGrape.status == 69 && member("code", of: noGrape.output) == "grapeUnreachable")
    // Nothing has been tried: it is no outcome of a call.
    let usage = try await grape.grenache("call", "a", "1", "--json", "--timeout", "0")
    #expect(usage.status == 64 && usage.output.isEmpty, "\(usage.output)")
    #expect(await grape.terminate() == 0)
  }

  @Test("a result that a worker sends beside its error is printed; the exit code is the error's")
  func resultBesideError() async throws {
    // What is sent back as it came has the key where an error stands, and the payload behind it.
    let echo = try RunningCommand(
      Programs.grenache, ["echo", "--port", "0", "--insecure-plaintext"])
    let to = ["--to", "127.0.0.1:" + port(of: await echo.firstLine()), "--insecure-plaintext"]
    for transport in ["wss", "https"] {
      let call = ["call", "boom", #"{"a":1}"#, "--transport", transport] + to
      let ended = try await run(Programs.grenache, call)
      #expect(ended.status == 70 && ended.errors.contains("error: boom"), "\(ended.errors)")
      #expect(ended.output == #"{"a":1}"#)
      let json = try await run(Programs.grenache, call + ["--json"])
      #expect(json.status == 70 && member("error", of: json.output) == "boom", "\(json.output)")
      #expect(json.output.contains(#""result":{"a":1}"#), "\(json.output)")
      let none = try await run(
        Programs.grenache, ["call", "boom", "null", "--json", "--transport", transport] + to)
      #expect(none.status == 70 && member("error", of: none.output) == "boom", "\(none.output)")
      #expect(member("code", of: none.output) == "remoteError", "\(none.output)")
      #expect(!none.output.contains("result"), "\(none.output)")
    }
    _ = await echo.terminate()
  }
}
