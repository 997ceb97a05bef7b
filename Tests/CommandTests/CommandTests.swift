import Foundation
import TestSupport
import Testing

@Suite("The commands, as processes", .timeLimit(.minutes(2)))
struct CommandTests {
  private func certificates(_ name: String) throws -> String {
    try GeneratedCertificates.directory(name)
  }

  private func startGrape(bootstrap: String = "") async throws -> (RunningGrape, String, String) {
    let grape = try await RunningGrape(bootstrap: bootstrap)
    return (grape, grape.api, grape.dht)
  }

  private func startWorker(
    _ arguments: String..., certificate: String = "worker"
  ) async throws -> (RunningCommand, String) {
    let worker = try RunningCommand(
      Programs.grenache,
      ["serve", "rpc_test", "--port", "0", "--json", "--tls-dir", certificates(certificate)]
        + arguments)
    let line = await worker.firstLine()
    return (worker, "127.0.0.1:" + port(of: member("address", of: line)))
  }

  @Test("announce, lookup and call through two grapes")
  func story() async throws {
    let (first, firstAPI, firstDHT) = try await startGrape()
    let (second, secondAPI, _) = try await startGrape(bootstrap: firstDHT)
    let client = ["--tls-dir", try certificates("client"), "--grape"]
    let announced = try await run(
      Programs.grenache, "announce", "rpc_test,1", "--tls-dir", try certificates("worker"),
      "--grape", firstAPI)
    #expect(announced.status == 0, "\(announced.errors)")
    #expect(announced.output == "rpc_test,1 stored on 1")
    let denied = try await run(
      Programs.grenache, "announce", "rpc_test,1", client[0], client[1], client[2], firstAPI)
    #expect(denied.status == 77)
    #expect(denied.errors.contains("ERR_GRAPE_NOT_PERMITTED"), "\(denied.errors)")
    let found = try await run(
      Programs.grenache, "lookup", "rpc_test", "--json", client[0], client[1], client[2], secondAPI)
    #expect(found.output == "[\"127.0.0.1:1\"]")
    let dead = try await run(
      Programs.grenache, "call", "rpc_test", "hello", client[0], client[1], client[2], secondAPI)
    #expect(dead.status == 69, "\(dead.errors)")
    let nobody = try await run(
      Programs.grenache, "call", "nobody", "hello", client[0], client[1], client[2], secondAPI)
    #expect(nobody.status == 69)
    #expect(nobody.errors.contains("no worker announces nobody"))
    #expect(await second.terminate() == 0)
    #expect(await first.terminate() == 0)
  }

  @Test("serve answers with a text, with the payload, and with what a command prints")
  func serve() async throws {
    for (arguments, payload, expected) in [
      (["--reply", "world"], "hello", "world"), (["--echo"], "{\"a\":[1,2]}", "{\"a\":[1,2]}"),
      (["--exec", "tr a-z A-Z"], "hello", "HELLO"), (["--exec", "echo 42"], "1", "42"),
      // What it leaves behind keeps its output open, and nobody waiting.
      (["--exec", "sleep 30 & echo 42"], "1", "42"),
      // Who writes to a pipe that nobody reads any more ends by that, as from a shell.
      (["--exec", "sh -c 'while :; do echo 7; done' | head -1"], "1", "7"),
      (["--exec", "grep SigBlk /proc/self/status | cut -f 2"], "1", "0000000000000000"),
    ] {
      let worker = try RunningCommand(
        Programs.grenache,
        [
          "serve", "rpc_test", "--port", "0", "--json", "--no-announce", "--tls-dir",
          certificates("worker"),
        ] + arguments)
      let address = member("address", of: await worker.firstLine())
      let reply = try await run(
        Programs.grenache, "call", "rpc_test", payload, "--to", "127.0.0.1:\(port(of: address))",
        "--tls-dir", certificates("client"))
      #expect(reply.status == 0, "\(reply.errors)")
      #expect(reply.output == expected)
      #expect(await worker.terminate() == 0)
    }
  }

  @Test("serve --calls-in-flight: one more than the limit is turned away, which may work later")
  func callsInFlight() async throws {
    let worker = try RunningCommand(
      Programs.grenache,
      [
        "serve", "a", "--port", "0", "--json", "--no-announce", "--insecure-plaintext", "--verbose",
        "--exec", "cat >/dev/null; sleep 60", "--calls-in-flight", "1",
      ])
    let address = "127.0.0.1:" + port(of: member("address", of: await worker.firstLine()))
    let call = ["call", "a", "1", "--to", address, "--insecure-plaintext"]
    let first = try RunningCommand(Programs.grenache, call)
    #expect(await worker.says("by="))
    let second = try await run(Programs.grenache, call)
    #expect(second.status == 75 && second.errors.contains("ERR_OVERLOADED"), "\(second.errors)")
    _ = await first.terminate()
    _ = await worker.terminate()
  }

  @Test("serve --exec: a command that prints more than the limit is ended; a reply has one, too")
  func outputLimit() async throws {
    for (bytes, then, fault) in [
      (1 << 20, "true", "ERR_REPLY_SIZE"),
      ((1 << 20) + 1, "sleep 60", "ERR_EXEC: the command printed more than a reply may hold"),
    ] {
      let (worker, address) = try await startWorker(
        "--no-announce", "--exec", "head -c \(bytes) /dev/zero | tr '\\0' x; \(then)")
      let reply = try await run(
        Programs.grenache, "call", "rpc_test", "1", "--to", address, "--tls-dir",
        certificates("client"))
      #expect(reply.status == 70 && reply.errors.contains(fault), "\(reply.errors)")
      _ = await worker.terminate()
    }
  }

  @Test("an impostor is refused by name, with exit code 77")
  func impostor() async throws {
    let (worker, address) = try await startWorker(
      "--reply", "stolen", "--no-announce", certificate: "other-worker")
    let reply = try await run(
      Programs.grenache, "call", "rpc_test", "hello", "--to", address, "--tls-dir",
      certificates("client"))
    #expect(reply.status == 77)
    #expect(reply.output.isEmpty)
    #expect(reply.errors.contains("expected URI:grenache:rpc_test"))
    #expect(reply.errors.contains("presented URI:grenache:other"))
    _ = await worker.terminate()
  }

  @Test("P22 certs: a client that is issued to may call, and once revoked it may not")
  func certs() async throws {
    let folder = try TemporaryFolder()
    let path = { (name: String) in "\(folder.path)/\(name)" }
    let made = try await run(
      Programs.grenache, "certs", "--out", folder.path, "--service", "rpc_test")
    #expect(made.output.split(separator: "\n").count == 3)
    let issued = try await run(
      Programs.grenache, "certs", "issue", path("other"), "--ca", path("ca"), "--host", "other.test"
    )
    #expect(issued.status == 0, "\(issued.errors)")
    let worker = try RunningCommand(
      Programs.grenache,
      [
        "serve", "rpc_test", "--port", "0", "--json", "--reply", "world", "--no-announce",
        "--tls-dir", path("worker"),
      ])
    let address = "127.0.0.1:" + port(of: member("address", of: await worker.firstLine()))
    let call = [
      "call", "rpc_test", "hello", "--to", address, "--tls-dir", path("other"), "--timeout", "5",
    ]
    let before = try await run(Programs.grenache, call)
    #expect(before.output == "world", "\(before.errors)")
    let renewed = try await run(
      Programs.grenache, "certs", "renew", path("worker"), "--ca", path("ca"))
    #expect(renewed.status == 0, "\(renewed.errors)")
    let revoked = try await run(
      Programs.grenache, "certs", "revoke", path("other"), "--ca", path("ca"), "--into",
      path("worker"))
    #expect(revoked.status == 0, "\(revoked.errors)")
    // The worker looks at its files by itself: the call is refused as soon as it has.
    var refused = before
    for _ in 0..<100 where refused.status == 0 { refused = try await run(Programs.grenache, call) }
    #expect(refused.status == 77, "\(refused.errors)")
    #expect(refused.errors.contains("certificate revoked"), "\(refused.errors)")
    _ = await worker.terminate()
  }

  @Test("tls inspect says what files hold; tls probe says what a connection would meet")
  func tlsTools() async throws {
    let server = try certificates("server")
    let inspected = try await run(
      Programs.grenache, "tls", "inspect", "\(server)/cert.pem", "\(server)/key.pem",
      try certificates("expired") + "/cert.pem")
    #expect(inspected.status == 0)
    for text in ["URI:grenache:rpc_test", "CN=Grenache test CA", "key EC 256 bits", "EXPIRED"] {
      #expect(inspected.output.contains(text), "\(text)")
    }
    let none = try await run(Programs.grenache, "tls", "inspect", "/nowhere/cert.pem")
    #expect(none.status == 78)
    #expect(none.errors.contains("/nowhere/cert.pem: does not exist"))
    let (worker, address) = try await startWorker("--reply", "world", "--no-announce")
    let good = try await run(
      Programs.grenache, "tls", "probe", address, "--service", "rpc_test", "--json", "--tls-dir",
      try certificates("client"))
    #expect(good.status == 0)
    #expect(member("version", of: good.output) == "TLSv1.3")
    let object = try #require(
      try JSONSerialization.jsonObject(with: Data(good.output.utf8)) as? [String: Any])
    let chain = try #require(object["chain"] as? [[String: Any]])
    #expect(chain.first?["subject"] as? String == object["subject"] as? String)
    #expect(chain.first?["issuer"] as? String == object["issuer"] as? String)
    let refused = try await run(
      Programs.grenache, "tls", "probe", address, "--service", "rpc_test", "--tls-dir",
      try certificates("unknown-ca"))
    #expect(refused.status == 77)
    #expect(refused.errors.contains("unknown CA"), "\(refused.errors)")
    _ = await worker.terminate()
  }

  @Test(
    "P24 nothing old, as another implementation sees it",
    arguments: [
      (["-tls1_1", "-cipher", "ALL@SECLEVEL=0"], false, "alert protocol version"),
      (["-tls1_2", "-cipher", "AES128-SHA"], false, "handshake failure"),
      (["-alpn", "h2"], false, "no application protocol"),
      (["-alpn", "h2,http/1.1"], true, "ALPN protocol: http/1.1"),
      (["-tls1_2"], true, "Secure Renegotiation IS supported"),
    ] as [([String], Bool, String)])
  func nothingOld(_ options: [String], _ isAccepted: Bool, _ text: String) async throws {
    let (worker, address) = try await startWorker("--reply", "world", "--no-announce")
    let client = try certificates("client")
    let ended = try await run(
      Programs.openssl,
      [
        "s_client", "-connect", address, "-CAfile", "\(client)/ca.pem", "-cert",
        "\(client)/cert.pem", "-key", "\(client)/key.pem",
      ] + options)
    #expect((ended.output + ended.errors).contains(text), "\(ended.output)\(ended.errors)")
    #expect(ended.output.contains("Cipher is (NONE)") != isAccepted, "\(ended.output)")
    _ = await worker.terminate()
  }

  @Test("--tls-crl is enforced")
  func revocation() async throws {
    let (worker, address) = try await startWorker(
      "--reply", "world", "--no-announce", certificate: "revoked")
    let crl = try certificates("ca") + "/crl.pem"
    let client = try certificates("client")
    let trusting = try await run(
      Programs.grenache, "call", "rpc_test", "hello", "--to", address, "--tls-dir", client)
    #expect(trusting.output == "world", "\(trusting.errors)")
    let checking = try await run(
      Programs.grenache, "call", "rpc_test", "hello", "--to", address, "--tls-dir", client,
      "--tls-crl", crl)
    #expect(checking.status == 77)
    #expect(checking.errors.contains("revoked"))
    _ = await worker.terminate()
  }

  @Test("without certificates nothing starts, and what to do is said")
  func noCertificates() async throws {
    let grape = try await run(Programs.grape, "--dp", "0", "--aph", "0", "--bn", "")
    #expect(grape.status == 78)
    #expect(grape.errors.contains("--tls-dir"))
    #expect(grape.errors.contains("--insecure-plaintext"))
    let bad = try await run(
      Programs.grape, "--dp", "0", "--aph", "0", "--bn", "", "--tls-dir", certificates("expired"))
    #expect(bad.status == 78)
    #expect(bad.errors.contains("cert.pem: expired"))
    let open = try await run(
      Programs.grape, "--dp", "0", "--aph", "0", "--bn", "", "--insecure-plaintext", "-b", "0.0.0.0"
    )
    #expect(open.status == 64)
    let required = try await run(Programs.grape, "--dp", "0")
    #expect(required.status == 64)
  }

  @Test("--insecure-plaintext serves existing peers in the clear, loudly")
  func plaintext() async throws {
    let grape = try RunningCommand(
      Programs.grape, ["--dp", "0", "--aph", "0", "--bn", "", "--json", "--insecure-plaintext"])
    let line = await grape.firstLine()
    let api = member("api", of: line)
    #expect(member("dht", of: line).hasPrefix("127.0.0.1:"), "the DHT is on loopback as well")
    let answer = try await run(
      Programs.curl, "-s", "-d", "{\"data\":\"svc\"}", "http://\(api)/lookup")
    #expect(answer.output == "[]")
    #expect(grape.errors.contains("plaintext"))
    _ = await grape.terminate()
    let open = try await run(
      Programs.grape, "--dp", "0", "--aph", "0", "--bn", "", "--insecure-plaintext",
      "--dht-bind", "0.0.0.0")
    #expect(open.status == 64)
  }

  @Test("--dht-public-address that nobody could reach is refused, and named")
  func publicAddress() async throws {
    let grape = try await run(
      Programs.grape, "--dp", "0", "--aph", "0", "--bn", "", "--insecure-plaintext",
      "--dht-public-address", "10.0.0.5")
    #expect(grape.status == 78 && grape.errors.contains("10.0.0.5"))
  }

  @Test("grape: 78 for what it cannot be, 73 for a state folder that cannot be used, 70 for a port")
  func grapeExits() async throws {
    let grape = try await RunningGrape(isPlain: true)
    let folder = try TemporaryFolder()
    let holder = try await RunningGrape(isPlain: true, options: ["--state-dir", folder.path])
    for (options, status, text) in [
      (["--dht-bind-ipv6", "127.0.0.1"], 78, "not an IPv6 address"),
      (["--dht-bind", "localhost"], 64, "loopback"),
      (["--state-dir", "/dev/null/x"], 73, "/dev/null/x cannot be made"),
      (["--state-dir", folder.path], 73, "in use by another grape"),
      (["--listen", "127.0.0.1:\(port(of: grape.api))"], 70, "error: "),
    ] as [([String], Int32, String)] {
      let ended = try await run(
        Programs.grape, ["--dp", "0", "--aph", "0", "--bn", "", "--insecure-plaintext"] + options)
      #expect(ended.status == status, "\(options): \(ended.errors)")
      #expect(ended.errors.contains(text), "\(ended.errors)")
    }
    let help = try await run(Programs.grape, "--help").output
    for code in ["64", "70", "73", "78"] { #expect(help.contains(" \(code) "), "\(code)") }
    for grape in [grape, holder] { #expect(await grape.terminate() == 0) }
  }

  @Test("curl: announce and lookup as existing grapes answer them; no certificate, no answer")
  func curl() async throws {
    let (grape, api, _) = try await startGrape()
    let client = try certificates("worker")
    let options = [
      "-s", "--cacert", "\(client)/ca.pem", "--cert", "\(client)/cert.pem", "--key",
      "\(client)/key.pem",
    ]
    let announce = try await run(
      Programs.curl,
      options + ["-d", "{\"rid\":\"1\",\"data\":[\"rpc_test\",1337]}", "https://\(api)/announce"])
    #expect(announce.output == "\"No nodes to query\"")
    let lookup = try await run(
      Programs.curl,
      options + ["-d", "{\"rid\":\"1\",\"data\":\"rpc_test\"}", "https://\(api)/lookup"])
    #expect(lookup.output == "[\"127.0.0.1:1337\"]")
    let refused = try await run(
      Programs.curl,
      [
        "-sS", "--cacert", "\(client)/ca.pem", "-d", "{\"data\":\"rpc_test\"}",
        "https://\(api)/lookup",
      ])
    #expect(refused.status != 0)
    #expect(refused.errors.contains("certificate required"))
    #expect(await grape.terminate() == 0)
  }

  @Test("echo: POST bodies and GET over HTTPS, kept alive")
  func echo() async throws {
    let echo = try RunningCommand(
      Programs.grenache,
      ["echo", "--port", "0", "--threads", "2", "--tls-dir", certificates("grape")])
    let address = "127.0.0.1:" + port(of: await echo.firstLine())
    let client = try certificates("client")
    let answers = try await run(
      Programs.curl, "-sv", "--cacert", "\(client)/ca.pem", "--cert", "\(client)/cert.pem", "--key",
      "\(client)/key.pem", "-d", "one", "https://\(address)/a", "https://\(address)/b")
    #expect(answers.output == "oneone")
    #expect(answers.errors.contains("Re-using existing connection"))
    #expect(await echo.terminate() == 0)
  }
}
