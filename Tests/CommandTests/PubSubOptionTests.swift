import Foundation
import Grenache
import TestSupport
import Testing

@Suite("Options of pub and sub", .timeLimit(.minutes(2)))
struct PubSubOptionTests {
  private func object(_ line: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
  }

  @Test("pub --topic, sub --topic and --json: what is asked for, and nothing else")
  func topics() async throws {
    let grape = try await RunningGrape()
    let pub = ["pub", "rpc_test", "--wait-for", "2"]
    let (first, firstAddress) = try await grape.start(pub + ["--topic", "a"])
    let (second, secondAddress) = try await grape.start(pub + ["--topic", "b"])
    let (plain, plainAddress) = try await grape.start(pub)
    func subscribe(_ arguments: String...) throws -> RunningCommand {
      try RunningCommand(
        Programs.grenache, ["sub", "rpc_test", "--json"] + arguments + grape.options())
    }
    let all = try subscribe("--count", "4")
    let some = try subscribe("--topic", "a", "--topic", "c", "--count", "2")
    // One after the other: the subscriber that hears everything says when the next may come.
    var heard: [[String: Any]] = []
    for (publisher, line) in [(first, "one"), (second, "two"), (plain, "three"), (first, "four")] {
      publisher.write(line + "\n")
      heard.append(try object(await all.firstLine()))
    }
    #expect(heard.map { $0["message"] as? String } == ["one", "two", "three", "four"])
    #expect(heard.map { $0["topic"] as? String } == ["a", "b", nil, "a"])
    #expect(heard.map { $0["number"] as? Int } == [1, 1, 1, 2])
    let publishers = [firstAddress, secondAddress, plainAddress, firstAddress]
    #expect(heard.map { $0["publisher"] as? String } == publishers)
    #expect(await all.end().status == 0)
    let ended = await some.end()
    #expect(
      ended.output.split(separator: "\n").map { member("message", of: String($0)) } == [
        "one", "four",
      ], "\(ended.output)\(ended.errors)")
    for publisher in [first, second, plain] { #expect(await publisher.terminate() == 0) }
    #expect(await grape.terminate() == 0)
  }

  @Test(
    "what cannot be is 64",
    arguments: [
      ["pub", "news", "-p", "0", "--no-announce", "--slow", "fast"],
      ["pub", "news", "-p", "0", "--no-announce", "--wait-for", "-1"],
      ["pub", "news", "-p", "0", "--no-announce", "--topic", String(repeating: "x", count: 256)],
      ["sub", "news", "--topic", String(repeating: "x", count: 256)],
      ["sub", "news", "--count", "0"], ["sub", "news", "--timeout", "0"],
      ["pub", "news", "-p", "0", "--no-announce", "--timeout", "1"],
      ["serve", "news", "-p", "0", "--no-announce", "--echo", "--timeout", "1"],
    ])
  func usage(_ arguments: [String]) async throws {
    let ended = try await run(Programs.grenache, arguments + ["--insecure-plaintext"])
    #expect(ended.status == 64 && ended.output.isEmpty, "\(ended.errors)")
  }

  @Test("sub --timeout: 75 without a message, or with fewer than --count; after one it goes on")
  func timeout() async throws {
    let grape = try await RunningGrape(isPlain: true)
    let (pub, _) = try await grape.start(["pub", "news", "--wait-for", "2"])
    func subscribe(_ arguments: String...) throws -> RunningCommand {
      try RunningCommand(Programs.grenache, ["sub"] + arguments + grape.options())
    }
    let two = try subscribe("news", "--count", "2", "--timeout", "6")
    let one = try subscribe("news", "--timeout", "6")
    pub.write("first\n")
    #expect(await one.firstLine() == "first", "\(one.errors)")
    let none = await (try subscribe("nobody", "--timeout", "1")).end()
    #expect(none.status == 75 && none.output.isEmpty, "\(none.errors)")
    #expect(none.errors.contains("no message of nobody came in time"), "\(none.errors)")
    let few = await two.end()
    #expect(few.status == 75 && few.output == "first", "\(few.errors)")
    #expect(few.errors.contains("1 of 2 messages of news came in time"), "\(few.errors)")
    // Its own time is over by then, which began later than that of the other.
    _ = await (try subscribe("nobody", "--timeout", "6")).end()
    pub.write("second\n")
    #expect(await one.firstLine() == "second", "\(one.errors)")
    for command in [one, pub] { #expect(await command.terminate() == 0) }
    #expect(await grape.terminate() == 0)
  }

  /// What a subscriber has heard that was stopped while much was published.
  private struct Heard {
    var numbers: [Int] = []
    var gaps: [(from: Int, to: Int)] = []

    mutating func add(_ object: [String: Any]) {
      if let number = object["number"] as? Int { numbers.append(number) }
      guard let gap = object["gap"] as? [String: Int], let from = gap["from"], let to = gap["to"]
      else { return }
      gaps.append((from, to))
    }
  }

  @Test(
    "pub --slow: which messages a subscriber loses that stands still, and sub --json names them",
    arguments: ["dropOldest", "dropNewest", "disconnect"])
  func slow(_ policy: String) async throws {
    let grape = try await RunningGrape(isPlain: true)
    let (pub, _) = try await grape.start(["pub", "news", "--wait-for", "2", "--slow", policy])
    let quick = try RunningCommand(Programs.grenache, ["sub", "news"] + grape.options())
    let slow = try RunningCommand(Programs.grenache, ["sub", "news", "--json"] + grape.options())
    pub.write("first\n")
    #expect(await quick.firstLine() == "first")
    var heard = Heard()
    heard.add(try object(await slow.firstLine()))
    kill(slow.processIdentifier, SIGSTOP)
    // More than the sockets, its queue (384 KiB) and the ring (1 MiB) hold together.
    let count = 150
    let line = String(repeating: "x", count: 100 << 10)
    for _ in 0..<count {
      pub.write(line + "\n")
      #expect(await quick.firstLine() == line)
    }
    kill(slow.processIdentifier, SIGCONT)
    let last = 1 + count
    while !heard.numbers.contains(last), heard.gaps.last?.to != last {
      let line = await slow.firstLine()
      guard !line.isEmpty else { break }
      heard.add(try object(line))
    }
    let gap = try #require(heard.gaps.last, "\(slow.errors)")
    #expect(heard.numbers.contains(gap.from - 1))
    let behind = heard.numbers.filter { $0 > gap.to }.count
    switch policy {
    case "dropNewest": #expect(gap.to == last)
    case "dropOldest": #expect((1...6).contains(behind), "\(heard.gaps)")
    // It comes back and gets what the publisher keeps for those.
    default: #expect((8...11).contains(behind), "\(heard.gaps)")
    }
    for command in [quick, slow, pub] { #expect(await command.terminate() == 0) }
    #expect(await grape.terminate() == 0)
  }

  @Test("sub --json: bytes that are no text come whole, in base64")
  func bytes() async throws {
    let grape = try await RunningGrape(isPlain: true)
    let pub = try await PeerPub("news", .insecurePlaintext(port: 0), logger: quietLogger)
    let running = try await RunningTask { started in try await pub.run { started("\($0)") } }
    let port = port(of: running.place)
    #expect(try await grape.grenache("announce", "news,\(port)").status == 0)
    let sub = try RunningCommand(
      Programs.grenache, ["sub", "news", "--json", "--count", "2"] + grape.options())
    await pub.waitForSubscribers(1)
    try await pub.publish(PubMessage(bytes: [0xff, 0x00, 0x0a]))
    try await pub.publish(PubMessage(bytes: Array("text".utf8)))
    let lines = await sub.end().output.split(separator: "\n").map { try? object(String($0)) }
    #expect(lines.map { $0?["bytes"] as? String } == ["/wAK", "dGV4dA=="], "\(sub.errors)")
    #expect(lines.allSatisfy { $0?["message"] == nil && $0?["number"] is Int })
    await running.stop()
    #expect(await grape.terminate() == 0)
  }

  @Test("sub --json: where nobody knows how much was missed, the gap is null")
  func unknownGap() async throws {
    let grape = try await RunningGrape(isPlain: true)
    let (first, address) = try await grape.start(["pub", "news", "--wait-for", "1"])
    let sub = try RunningCommand(Programs.grenache, ["sub", "news", "--json"] + grape.options())
    first.write("one\n")
    let one = try object(await sub.firstLine())
    kill(first.processIdentifier, SIGKILL)
    _ = await first.end()
    let second = try RunningCommand(
      Programs.grenache,
      ["pub", "news", "--wait-for", "1", "--json", "--port", port(of: address)] + grape.options())
    second.write("two\n")
    let gap = try object(await sub.firstLine())
    #expect(gap["gap"] is NSNull && gap["message"] == nil, "\(gap)")
    #expect(gap["run"] as? String == one["run"] as? String && one["run"] is String)
    #expect(try object(await sub.firstLine())["message"] as? String == "two", "\(sub.errors)")
    for command in [sub, second] { #expect(await command.terminate() == 0) }
    #expect(await grape.terminate() == 0)
  }

  @Test("no input at all: a publisher ends with 0, and whoever subscribes has heard nothing")
  func empty() async throws {
    let ended = try await run(
      Programs.grenache, "pub", "news", "-p", "0", "--no-announce", "--insecure-plaintext")
    #expect(ended.status == 0, "\(ended.errors)")
  }
}
