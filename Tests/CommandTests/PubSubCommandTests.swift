import Foundation
import GrenacheCommandSupport
import TestSupport
import Testing

@Suite("Publish and subscribe: the commands, and Python's websockets", .timeLimit(.minutes(2)))
struct PubSubCommandTests {
  @Test("lines of one process arrive in another, over mutual TLS and through a grape")
  func commands() async throws {
    let grape = try await RunningGrape()
    let api = grape.api
    let pub = try RunningCommand(
      "/bin/sh",
      [
        "-c", "printf 'one\\ntwo\\n' | \"$0\" \"$@\"", Programs.grenache, "pub", "rpc_test",
        "--port",
        "0", "--json", "--wait-for", "1", "--grape", api, "--tls-dir",
        GeneratedCertificates.directory("worker"),
      ])
    #expect(member("key", of: await pub.firstLine()) == "rpc_test")
    let sub = try await run(
      Programs.grenache, "sub", "rpc_test", "--count", "2", "--grape", api, "--tls-dir",
      GeneratedCertificates.directory("client"))
    #expect(sub.output == "one\ntwo", "\(sub.errors)")
    #expect(sub.status == 0)
    #expect(await grape.terminate() == 0)
  }

  @Test("a line of the limit is published; one byte more ends the publisher with 65, and says why")
  func longLines() async throws {
    let options = ["--insecure-plaintext"]
    let grape = try await RunningGrape(isPlain: true)
    let api = grape.api
    let pub = try RunningCommand(
      Programs.grenache,
      ["pub", "news", "--port", "0", "--json", "--wait-for", "1", "--grape", api] + options)
    #expect(member("key", of: await pub.firstLine()) == "news")
    let sub = try RunningCommand(
      Programs.grenache, ["sub", "news", "--count", "1", "--grape", api] + options)
    let line = String(repeating: "x", count: InputLines.lineBytesMaxDefault)
    // More than the pipe holds: it is written when the subscriber is there.
    pub.write(line + "\n")
    #expect(await sub.firstLine() == line, "\(sub.errors)")
    pub.write(line + "x\n")
    let ended = await pub.end()
    #expect(ended.status == 65)
    #expect(ended.errors.contains("line 2 of the input has more than 262144 bytes"))
    _ = await grape.terminate()
  }

  @Test("SIGTERM ends a publisher that waits for a line, and one that waits for subscribers")
  func terminated() async throws {
    for options in [[], ["--wait-for", "1"]] {
      let pub = try RunningCommand(
        Programs.grenache,
        ["pub", "news", "--port", "0", "--json", "--no-announce", "--insecure-plaintext"] + options)
      _ = await pub.firstLine()
      #expect(await pub.terminate() == 0, "\(pub.errors)")
    }
  }

  @Test("a Python subscriber in the clear", .enabled(if: Programs.hasPython))
  func pythonSubscriber() async throws {
    let pub = try RunningCommand(
      "/bin/sh",
      [
        "-c", "printf 'one\\n{\"two\":2}\\n' | \"$0\" \"$@\"", Programs.grenache, "pub", "news",
        "--port", "0", "--json", "--wait-for", "1", "--no-announce", "--insecure-plaintext",
      ])
    let address = member("address", of: await pub.firstLine())
    let sub = try await run(
      Programs.python, "\(Programs.interop)/ws_sub.py", "127.0.0.1", port(of: address), "2")
    #expect(sub.output == "one\n{\"two\":2}", "\(sub.errors)")
  }

  @Test("a Python publisher in the clear", .enabled(if: Programs.hasPython))
  func pythonPublisher() async throws {
    let grape = try await RunningGrape(isPlain: true)
    let api = grape.api
    let pub = try RunningCommand(Programs.python, ["\(Programs.interop)/ws_pub.py"])
    pub.write("one\ntwo\n")
    let announced = try await run(
      Programs.grenache, "announce", "news,\(await pub.firstLine())", "--grape", api,
      "--insecure-plaintext")
    #expect(announced.status == 0, "\(announced.errors)")
    let sub = try await run(
      Programs.grenache, "sub", "news", "--count", "2", "--grape", api, "--insecure-plaintext")
    #expect(sub.output == "one\ntwo", "\(sub.errors)")
    pub.closeInput()
    #expect(await pub.end().status == 0)
    _ = await grape.terminate()
  }
}
