import Foundation
import TestSupport
import Testing

@Suite("Publish and subscribe: the commands, and Python's websockets", .timeLimit(.minutes(2)))
struct PubSubCommandTests {
  @Test("lines of one process arrive in another, over mutual TLS and through a grape")
  func commands() async throws {
    let grape = try RunningCommand(
      Programs.grape,
      [
        "--dp", "0", "--aph", "0", "--bn", "", "-b", "127.0.0.1", "--json", "--tls-dir",
        GeneratedCertificates.directory("grape"),
      ])
    let api = member("api", of: await grape.firstLine())
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
    let grape = try RunningCommand(
      Programs.grape, ["--dp", "0", "--aph", "0", "--bn", "", "--json", "--insecure-plaintext"])
    let api = member("api", of: await grape.firstLine())
    let pub = try RunningCommand(
      "/bin/sh",
      [
        "-c", "(printf 'one\\ntwo\\n'; sleep 20) | \"$0\" \"$@\"", Programs.python,
        "\(Programs.interop)/ws_pub.py",
      ])
    let announced = try await run(
      Programs.grenache, "announce", "news,\(await pub.firstLine())", "--grape", api,
      "--insecure-plaintext")
    #expect(announced.status == 0, "\(announced.errors)")
    let sub = try await run(
      Programs.grenache, "sub", "news", "--count", "2", "--grape", api, "--insecure-plaintext")
    #expect(sub.output == "one\ntwo", "\(sub.errors)")
    _ = await grape.terminate()
  }
}
