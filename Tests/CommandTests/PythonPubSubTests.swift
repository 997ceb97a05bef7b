import TestSupport
import Testing

@Suite(
  "Publish and subscribe with Python's websockets over mutual TLS",
  .enabled(if: Programs.hasPython), .timeLimit(.minutes(2)))
struct PythonPubSubTests {
  @Test("a Python subscriber hears our publisher")
  func subscriber() async throws {
    let pub = try RunningCommand(
      "/bin/sh",
      [
        "-c", "printf 'one\\n{\"two\":2}\\n' | \"$0\" \"$@\"", Programs.grenache, "pub", "rpc_test",
        "--port", "0", "--json", "--wait-for", "1", "--no-announce", "--tls-dir",
        GeneratedCertificates.directory("worker"),
      ])
    let address = member("address", of: await pub.firstLine())
    let sub = try await run(
      Programs.python, "\(Programs.interop)/ws_sub.py", "127.0.0.1", port(of: address), "2",
      GeneratedCertificates.directory("client"))
    #expect(sub.output == "one\n{\"two\":2}", "\(sub.errors)")
  }

  @Test("our subscriber finds and hears a Python publisher")
  func publisher() async throws {
    let worker = try GeneratedCertificates.directory("worker")
    let grape = try await RunningGrape()
    let api = grape.api
    let pub = try RunningCommand(Programs.python, ["\(Programs.interop)/ws_pub.py", worker])
    pub.write("one\ntwo\n")
    let announced = try await run(
      Programs.grenache, "announce", "rpc_test,\(await pub.firstLine())", "--grape", api,
      "--tls-dir", worker)
    #expect(announced.status == 0, "\(announced.errors)")
    let sub = try await run(
      Programs.grenache, "sub", "rpc_test", "--count", "2", "--grape", api, "--tls-dir",
      GeneratedCertificates.directory("client"))
    #expect(sub.output == "one\ntwo", "\(sub.errors)")
    pub.closeInput()
    #expect(await pub.end().status == 0)
    _ = await grape.terminate()
  }
}
